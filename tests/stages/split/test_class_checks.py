from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.stages.split import class_checks
from pipeline.stages.split.assignment.images import Image
from tests.builders.albums import images_of, ranks
from tests.builders.params import split_params


def check(labels: Sequence[str], splits: Sequence[str | None], **changes: Any) -> None:
    images = [Image(str(row), "", label, None, None) for row, label in enumerate(labels)]
    class_checks.check_classes(images_of(images), ranks(splits), split_params(**changes))


def test_a_single_class_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"class 'cat': a classifier needs at least two"):
        check(["cat"] * 3, ["train", "val", "test"])


def dogs_without(missing: str) -> list[str | None]:
    """The splits of three dogs and of one that is left out."""
    others = [name for name in SPLITS if name != missing]
    return [*others, None, others[0]]


@pytest.mark.parametrize(
    ("missing", "way"),
    [("train", "keep"), ("train", "fail"), ("val", "fail"), ("test", "fail")],
)
def test_the_error_names_a_class_without_images_in_a_split(missing: str, way: str) -> None:
    labels = ["ant"] * 3 + ["cat"] * 3 + ["dog"] * 4
    with pytest.raises(PipelineError) as caught:
        check(labels, [*SPLITS, *SPLITS, *dogs_without(missing)], incomplete_classes=way)
    assert str(caught.value) == (
        f"class 'dog' has no image in {missing} (of 3 in all): add images, change split.val and "
        "split.test, try another split.seed, or, where the source prescribes splits, set "
        "split.prescribed=false"
    )


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_class_without_images_in_val_or_test_is_a_warning(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["ant"] * 3 + ["cat"] * 3 + ["dog"] * 4
    check(labels, [*SPLITS, *SPLITS, *dogs_without(missing)])
    assert capsys.readouterr().err == (
        f"warning: 1 class has no image in {missing} (images in all): dog (3); a class needs three "
        "groups of images to be in every split, so add images, or refuse such classes with "
        "split.incomplete_classes=fail\n"
    )


def test_the_warning_names_the_first_classes(capsys: pytest.CaptureFixture[str]) -> None:
    rare = [f"rare {number}" for number in range(class_checks.MAX_NAMED + 2)]
    check(["cat"] * 3 + ["dog"] * 3 + rare, [*SPLITS, *SPLITS, *["train"] * len(rare)])
    val, test = capsys.readouterr().err.splitlines()
    assert val.startswith(f"warning: {len(rare)} classes have no image in val")
    assert test.startswith(f"warning: {len(rare)} classes have no image in test")
    assert "rare 4 (1), and 2 more; " in test
    assert "rare 5" not in test


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_split_with_images_of_one_class_only_is_refused(missing: str) -> None:
    with pytest.raises(PipelineError, match=f"class 'dog' has no image in {missing}"):
        check(["cat"] * 3 + ["dog"] * 4, [*SPLITS, *dogs_without(missing)])


def test_classes_in_every_split_pass_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    check(["cat"] * 3 + ["dog"] * 3, list(SPLITS) * 2, incomplete_classes="fail")
    assert capsys.readouterr().err == ""
