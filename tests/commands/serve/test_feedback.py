from pathlib import Path

import pytest

from pipeline.commands.serve import feedback
from pipeline.commands.serve.feedback import FeedbackFolder
from pipeline.commands.serve.limits import Refusal
from pipeline.core.errors import PipelineError
from tests.builders.images import noise_png

CLASSES = ["a/b", "..", "plain"]


def test_pictures_stay_inside_the_folder_whatever_the_classes_are_called(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path / "kept")
    for number, label in enumerate(CLASSES):
        folder.keep(noise_png(number), label, CLASSES)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == 3
    assert all(path.parent.parent == tmp_path / "kept" for path in paths)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("limit", ["MAX_PICTURES", "MAX_BYTES"])
def test_a_full_folder_takes_no_more_and_knows_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    size = len(noise_png(0))
    monkeypatch.setattr(feedback, limit, {"MAX_PICTURES": 2, "MAX_BYTES": 2 * size + 99}[limit])
    for number in range(2):
        FeedbackFolder(tmp_path).keep(noise_png(number), "plain", CLASSES)
    folder = FeedbackFolder(tmp_path)
    folder.keep(noise_png(1), "plain", CLASSES)  # is there already
    with pytest.raises(Refusal, match="is full") as refused:
        folder.keep(noise_png(2), "plain", CLASSES)
    assert refused.value.status == 507
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_folders_and_pictures_are_for_the_user_alone_in_a_folder_that_is_open(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "plain").mkdir(mode=0o755)
    FeedbackFolder(tmp_path).keep(noise_png(0), "plain", CLASSES)
    (path,) = tmp_path.rglob("*.png")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_limit_is_of_the_folder_whoever_adds_to_it_or_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MAX_PICTURES", 2)
    first, second = FeedbackFolder(tmp_path), FeedbackFolder(tmp_path)  # of two processes
    first.keep(noise_png(0), "plain", CLASSES)
    second.keep(noise_png(1), "plain", CLASSES)
    with pytest.raises(Refusal, match="is full"):
        first.keep(noise_png(2), "plain", CLASSES)
    next(tmp_path.rglob("*.png")).unlink()
    first.keep(noise_png(2), "plain", CLASSES)


def test_a_failing_disk_is_a_refusal(tmp_path: Path) -> None:
    folder = FeedbackFolder(tmp_path / "kept")
    (tmp_path / "kept/plain").write_text("a file in the place of the folder")
    with pytest.raises(Refusal, match="the disk fails"):
        folder.keep(noise_png(1), "plain", CLASSES)


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match=r"--feedback .* cannot be used"):
        FeedbackFolder(tmp_path / "file/kept")


def test_a_picture_behind_white_space_has_the_suffix_of_its_format(tmp_path: Path) -> None:
    FeedbackFolder(tmp_path).keep(b"\r\n" + noise_png(0), "plain", CLASSES)
    assert len(list(tmp_path.rglob("*.png"))) == 1
