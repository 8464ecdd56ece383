from pathlib import Path

import pytest

from pipeline.stages.acquire.unseen_changes import warn_of_unseen_changes


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder with photographs, beside another with more; and with links to those."""
    for folder in ("dataset/photos/cat", "dataset/album", "elsewhere/dog/puppy"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.jpg").write_bytes(b"one")
    (tmp_path / "dataset/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dataset/album/dog").symlink_to(tmp_path / "elsewhere/dog")
    (tmp_path / "dataset/photos/cat/2.jpg").symlink_to(tmp_path / "elsewhere/dog/puppy/1.jpg")
    return tmp_path / "dataset"


@pytest.mark.parametrize(
    ("path", "unseen"),
    [
        ("../elsewhere", "elsewhere"),
        ("photos/../../elsewhere/dog/puppy/1.jpg", "elsewhere/dog/puppy/1.jpg"),
        ("linked", "dataset/linked"),
        ("linked/dog/puppy", "dataset/linked"),
        ("album/dog/puppy", "dataset/album/dog"),
        ("album", "dataset/album/dog"),
    ],
)
def test_images_whose_changes_dvc_does_not_see_are_reported(
    dataset: Path, path: str, unseen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_unseen_changes(dataset / path, dataset)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"DVC does not see changes in {dataset.parent / unseen}, which" in line


def test_a_source_is_a_dependency_itself_but_for_links_to_folders_in_it(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seen in (dataset / "photos", dataset / "linked", dataset / "nowhere", dataset / "a.zip"):
        warn_of_unseen_changes(seen, seen)
    warn_of_unseen_changes(dataset / "photos", dataset)  # links to files are followed
    warn_of_unseen_changes(dataset / "../elsewhere", dataset, dataset.parent)
    assert not capsys.readouterr().err
    warn_of_unseen_changes(dataset / "album", dataset / "album")
    assert str(dataset / "album/dog") in capsys.readouterr().err
