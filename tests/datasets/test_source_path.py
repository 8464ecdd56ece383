from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.source_path import check_source, find_path
from pipeline.params import AS_DESCRIBED

FOLDER = 'kind = "folder"\ndescription = "d"\npath = "photos"\n'
DIGITS = 'kind = "digits"\ndescription = "d"\n'
URLS = 'kind = "urls"\ndescription = "d"\n'
FLICKR = (
    'kind = "flickr"\ndescription = "d"\nseed = 1\nwanted = {train = 1}\n'
    'classes = {a = {text = "a"}, b = {text = "b"}}\n'
)


@pytest.fixture
def dataset(world: Path) -> Path:
    """A data set of photographs; the home folder has the folder photos."""
    (world / "photos").mkdir()
    (world / "dataset.toml").write_text(FOLDER)
    return world


@pytest.mark.parametrize("source", [AS_DESCRIBED, "https://example.org/a.zip", "photos"])
def test_a_source_that_can_be_used_stays_as_it_is(dataset: Path, source: str) -> None:
    assert check_source(dataset, source) == source


def test_the_home_folder_is_expanded(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(dataset))
    assert check_source(dataset, "~/photos") == str(dataset / "photos")


def test_a_data_set_that_makes_its_images_takes_no_source(dataset: Path) -> None:
    (dataset / "dataset.toml").write_text(DIGITS)
    assert check_source(dataset, AS_DESCRIBED) == AS_DESCRIBED
    with pytest.raises(PipelineError, match=r"has no meaning for .*, which makes its own"):
        check_source(dataset, "photos")


@pytest.mark.parametrize(
    ("text", "hint"),
    [("phots", r" \(did you mean photos\?\)"), ("unlike", ""), ("nowhere/photos", "")],
)
def test_a_path_that_does_not_exist_has_the_nearest_name(
    dataset: Path, text: str, hint: str
) -> None:
    with pytest.raises(PipelineError, match=f"^{text} does not exist{hint}$"):
        find_path(text)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('kind = "folder"\n', "does not name a source: set -S dataset.source=/absolute/path"),
        ('kind = "folder"\npath = "moved"\n', "dataset.toml: path = 'moved' does not exist ("),
        ('kind = "archive"\npath = "a.zip"\n', "dataset.toml: path = 'a.zip' does not exist ("),
        ('kind = "archive"\npath = "*.zip"\n', "dataset.toml: path = '*.zip' does not exist ("),
        ('kind = "urls"\n', "dataset.toml: path = 'urls.csv' does not exist ("),
    ],
)
def test_a_described_source_that_is_not_there_is_refused(
    dataset: Path, toml: str, message: str
) -> None:
    (dataset / "dataset.toml").write_text(f'description = "d"\n{toml}')
    with pytest.raises(PipelineError) as caught:
        check_source(dataset, AS_DESCRIBED)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "toml",
    [
        'kind = "folder"\npath = "s3://bucket/photos"\n',
        'kind = "archive"\nurl = "https://example.org/a.zip"\n',
        'kind = "archive"\npath = "photo*"\n',
        'kind = "urls"\npath = "https://example.org/list.csv?version=2"\n',
    ],
)
def test_a_described_source_that_may_be_there_is_taken(dataset: Path, toml: str) -> None:
    (dataset / "dataset.toml").write_text(f'description = "d"\n{toml}')
    assert check_source(dataset, AS_DESCRIBED) == AS_DESCRIBED


def test_a_copy_in_the_care_of_dvc_may_have_to_be_pulled(dataset: Path) -> None:
    (dataset / "dataset.toml").write_text('kind = "folder"\ndescription = "d"\npath = "gone"\n')
    (dataset / "photos.dvc").touch()
    assert check_source(dataset, AS_DESCRIBED) == AS_DESCRIBED


@pytest.mark.parametrize(
    ("kind", "key", "why"),
    [
        (URLS, 'pattern = "{label}_#"', "the labels are in the list of URLs"),
        (URLS, 'file_column = "name"', "the labels are in the list of URLs"),
        (FLICKR, 'label_column = "name"', "a search has its own classes"),
        (FLICKR, 'encoding = "cp1252"', "a search has its own classes"),
    ],
)
def test_a_key_without_effect_is_refused(dataset: Path, kind: str, key: str, why: str) -> None:
    (dataset / "dataset.toml").write_text(f"{key}\n{kind}")
    name = key.partition(" ")[0]
    with pytest.raises(PipelineError, match=f"{name} = .* has no effect, because {why}: leave it"):
        check_source(dataset, AS_DESCRIBED)
    assert check_source(dataset, "photos") == "photos"  # of which it may say where the labels are
