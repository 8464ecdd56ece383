import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import atomic, columns
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.params import SplitParams
from pipeline.stages.split import previous_split
from pipeline.stages.split.assignment.images import Image
from tests.builders.albums import images_of, names_of, ranks
from tests.builders.params import locked_code

EXAMPLES = settings(derandomize=True, max_examples=100)
SPLIT_VALUES = {
    "seed": 1,
    "val": 0.15,
    "test": 0.25,
    "train": None,
    "prescribed": True,
    "folds": None,
    "fold": 0,
    "leaks": "drop",
    "incomplete_classes": "keep",
}
SPLIT_PARAMS = SplitParams.model_validate(SPLIT_VALUES)
NAMES = st.sampled_from(["train", "val", "test"])
IDS = st.integers(0, 30).map("{:02d}".format)


@pytest.mark.parametrize(
    ("content", "known"),
    [
        (
            b"id,label,split,group\na,cat,train,\nb,cat,val,x\nc,dog,test,\n",
            {"a": "train", "b": "val", "c": "test"},
        ),
        (b"split,id\nval,a\n", {"a": "val"}),
        (b"id,label,split,group\n", {}),
        (b"id,label,split,group\na,cat,somewhere,\nb,cat,,\nc,cat,test,\n", {"c": "test"}),
        (b"id,label,split,group\na,cat,train,\nb,ca", {"a": "train"}),
        (b"id,label,split,group\na,cat,train,,,more\n", {"a": "train"}),
        (b"id\na\n", {}),
        (b"split\ntrain\n", {}),
        (b"", {}),
        (b"\xff\xfe\x00garbage", {}),
        (b"\x00" * 100, {}),
        (b'"' + b"x" * 200_000, {}),
        (b'id,split\na,train\n"' + b"x" * 200_000, {"a": "train"}),
        (b"split,id\nval,a\ntest", {"a": "val"}),
    ],
    ids=[
        "whole",
        "other columns",
        "no rows",
        "no splits",
        "torn",
        "long row",
        "ids alone",
        "splits alone",
        "empty",
        "not UTF-8",
        "zeros",
        "huge field",
        "huge field after a row",
        "without id",
    ],
)
def test_the_readable_rows_of_the_last_split_count(
    tmp_path: Path, content: bytes, known: dict[str, str]
) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    assert read_previous(path) == known


def test_before_the_first_run_there_is_no_previous_split(tmp_path: Path) -> None:
    assert read_previous(tmp_path / "data" / "split.csv") == {}


def read_previous(path: Path) -> dict[str, str | None]:
    """The splits of some images in the last run, as far as they are known."""
    ids = ["c", "new", "b", "a"]
    previous = previous_split.read_previous(path, images_of([image(key) for key in ids]))
    return {key: name for key, name in zip(ids, names_of(previous), strict=True) if name}


@pytest.mark.parametrize("count", [columns.CHUNK, columns.CHUNK + 1])
def test_a_large_last_split_is_read_whole(tmp_path: Path, count: int) -> None:
    ids = [f"{number:06d}" for number in range(count)]
    write_split(tmp_path / "split.csv", (SplitRow(key, "cat", "val", "") for key in ids))
    images = images_of([image(key) for key in [*ids, "new"]])
    previous = previous_split.read_previous(tmp_path / "split.csv", images)
    assert names_of(previous) == ["val"] * count + [None]


def lock(world: Path, params: object, code: list[dict[str, str]] | None = None) -> None:
    stages = {"split": {"deps": code or locked_code(), "params": {"params.yaml": params}}}
    (world / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


@pytest.mark.parametrize(
    "changes", [{}, {"leaks": "fail"}, {"leaks": "of old"}, {"incomplete_classes": "fail"}], ids=str
)
def test_params_are_the_same_whatever_split_leaks_is(world: Path, changes: dict[str, Any]) -> None:
    lock(world, {"split": SPLIT_VALUES | changes})
    assert previous_split.has_same_params_and_code(SPLIT_PARAMS)


def test_the_lock_of_a_version_without_split_leaks_has_the_same_params(world: Path) -> None:
    lock(world, {"split": {key: value for key, value in SPLIT_VALUES.items() if key != "leaks"}})
    assert previous_split.has_same_params_and_code(SPLIT_PARAMS)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"val": 0.16},
        {"test": 0.24},
        {"val": 15, "test": 25},
        {"train": 3},
        {"prescribed": False},
        {"folds": 2},
        {"fold": 1},
        {"later": None},
    ],
    ids=str,
)
def test_changed_params_are_not_the_same(world: Path, changes: dict[str, Any]) -> None:
    lock(world, {"split": SPLIT_VALUES | changes})
    assert not previous_split.has_same_params_and_code(SPLIT_PARAMS)


@pytest.mark.parametrize("key", sorted(SPLIT_VALUES.keys() - {"leaks", "incomplete_classes"}))
def test_a_lock_that_lacks_a_param_is_not_the_same(world: Path, key: str) -> None:
    lock(world, {"split": {name: value for name, value in SPLIT_VALUES.items() if name != key}})
    assert not previous_split.has_same_params_and_code(SPLIT_PARAMS)


@pytest.mark.parametrize(
    "params", [None, {}, 3, {"split": None}, {"split": []}, {"filter": SPLIT_VALUES}]
)
def test_a_lock_without_the_section_is_not_the_same(world: Path, params: object) -> None:
    lock(world, params)
    assert not previous_split.has_same_params_and_code(SPLIT_PARAMS)


@pytest.mark.parametrize("name", previous_split.ASSIGNMENT_CODE)
def test_changed_code_is_not_the_same(world: Path, name: str) -> None:
    code = [dep | {"md5": "0" * 32} if dep["path"] == name else dep for dep in locked_code()]
    lock(world, {"split": SPLIT_VALUES}, code)
    assert not previous_split.has_same_params_and_code(SPLIT_PARAMS)


def test_a_missing_lock_is_not_the_same(world: Path) -> None:
    assert not previous_split.has_same_params_and_code(SPLIT_PARAMS)


def test_a_lock_that_is_not_yaml_is_an_error(world: Path) -> None:
    (world / "dvc.lock").write_text("<<<<<<< HEAD\nstages: [\n")
    with pytest.raises(PipelineError, match=r"^dvc\.lock is not YAML: "):
        previous_split.has_same_params_and_code(SPLIT_PARAMS)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [({"name": "sample", "source": "datasets"}, True), ({"name": "images"}, False), (None, False)],
    ids=["the same", "another", "unknown"],
)
def test_the_last_split_counts_for_its_own_data_set_only(
    world: Path, dataset: object, expected: bool
) -> None:
    lock(world, {"split": SPLIT_VALUES, "dataset": dataset})
    assert previous_split.is_of_dataset("sample") is expected


def image(key: str) -> Image:
    return Image(key, f"{key}.png", "cat", None, None)


def report_moves(before: Mapping[str, str], now: Mapping[str, str | None]) -> None:
    images = images_of([image(key) for key in now])
    previous = ranks([before.get(key) for key in now])
    previous_split.report_moves(previous, images, ranks(list(now.values())))


def read_moves(world: Path) -> list[tuple[str, ...]]:
    rows = atomic.read_csv(world / ".cache" / "split" / "moves.csv")
    return [tuple(row.values()) for row in rows]


def test_moves_are_printed_by_direction_and_written(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {"a": "train", "b": "val", "c": "train", "d": "test", "e": "val", "gone": "test"}
    splits = ["test", "train", "test", "test", None, "val"]
    report_moves(before, dict(zip("abcdef", splits, strict=True)))
    path = world / ".cache" / "split" / "moves.csv"
    assert capsys.readouterr().out == (
        "split: 4 images moved since the last run (2 train to test, 1 val to left out, 1 val to "
        f"train); see {path}\n"
    )
    assert path.read_text() == (
        "id,label,before,now\na,cat,train,test\nb,cat,val,train\nc,cat,train,test\n"
        "e,cat,val,left out\n"
    )


def test_without_moves_nothing_is_printed_and_the_file_is_emptied(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_moves({"a": "train"}, {"a": "test"})
    capsys.readouterr()
    report_moves({"a": "test"}, {"a": "test", "new": None})
    assert capsys.readouterr().out == ""
    assert (world / ".cache" / "split" / "moves.csv").read_text() == "id,label,before,now\n"


def test_only_images_that_changed_their_split_have_moved(world: Path) -> None:
    @EXAMPLES
    @given(st.dictionaries(IDS, NAMES), st.dictionaries(IDS, st.none() | NAMES))
    def holds(before: dict[str, str], now: dict[str, str | None]) -> None:
        report_moves(before, now)
        assert read_moves(world) == [
            (key, "cat", before[key], name or "left out")
            for key, name in now.items()
            if key in before and before[key] != name
        ]

    holds()
