from pathlib import Path

import pytest

from pipeline.commands.ci.ci_run import Reference
from pipeline.commands.ci.new_images import describe_new_images
from pipeline.commands.ci.revisions import Revision, find_revision
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split, write_split
from tests.builders.repositories import git

pytestmark = pytest.mark.usefixtures("figures")
SPLIT = Path("data/split.csv")


class PastReference(Reference):
    """A revision with another split.csv."""

    def read_split(self) -> str:
        return Path("before.csv").read_text()


MAIN = PastReference(Revision("main", "a" * 40))


def test_images_that_the_reference_lacks_are_compared_with_its_training_images() -> None:
    rows = list(read_split(SPLIT))
    write_split(Path("before.csv"), [row for number, row in enumerate(rows) if number % 5])
    arrived, verdict, *_ = describe_new_images(MAIN)
    count = len(rows[::5])
    assert arrived == f"New since main (aaaaaaa): {count} images."
    assert verdict.startswith(f"No difference between the {count} new images and")


def test_without_new_images_or_a_reference_nothing_is_said() -> None:
    Path("before.csv").write_text(SPLIT.read_text())
    assert describe_new_images(MAIN) == []
    assert describe_new_images(Reference(None, "it does not exist")) == []
    Path("before.csv").write_text("id,label,split,group\n" + "0" * 64 + ",cat,train,\n")
    assert describe_new_images(MAIN) == []  # of another data set


def test_what_cannot_be_compared_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for row in read_split(SPLIT) if row.split == "val"]
    write_split(Path("before.csv"), rows)
    (sentence,) = describe_new_images(MAIN)
    assert sentence == (
        "New images are not compared with those of main (aaaaaaa): no training images or no "
        "others of then are left."
    )

    def fail(_: Reference) -> str:
        raise PipelineError("it is not in DVC's cache")

    monkeypatch.setattr(PastReference, "read_split", fail)
    assert "it is not in DVC's cache" in describe_new_images(MAIN)[0]


def test_split_csv_of_a_revision_is_read_by_dvc(world: Path) -> None:
    (world / ".dvc").mkdir()
    (world / ".dvc/config").touch()
    git("init", "-q")
    git("add", "-f", ".dvc", "data/split.csv")
    git("commit", "-q", "-m", "data")
    before = SPLIT.read_text()
    SPLIT.write_text("id,label,split,group\n")
    assert Reference(find_revision("HEAD")).read_split() == before
    git("rm", "-q", "--cached", "data/split.csv")
    git("commit", "-q", "-m", "no data")
    with pytest.raises(PipelineError, match=r"no data/split\.csv of HEAD .*: run `dvc pull`, or"):
        Reference(find_revision("HEAD")).read_split()
