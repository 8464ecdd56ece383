from pathlib import Path

import pytest

from pipeline.commands.review.catalogue import LEFT_OUT, Catalogue, Filter, FlagKind, Flags
from pipeline.core import shards
from pipeline.core.split_csv import SplitRow, write_split
from tests.builders.clean_rows import clean_row

LABELS = {"a": "cat", "b": "dog", "c": "cat", "d": "dog", "e": "cat"}
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test"}  # e is left out
FLAGS = {
    FlagKind.LABEL: Flags(["c", "a"], ["looks like dog", "looks like dog"], ["dog", "dog"]),
    FlagKind.DARK: Flags(["d", "c"], ["dark: 1", "dark: 2"]),
}


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    rows = [clean_row(key, label=label, name=f"{key}.jpg") for key, label in LABELS.items()]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    rows_of_split = [SplitRow(key, LABELS[key], split, "") for key, split in SPLITS.items()]
    write_split(tmp_path / "split.csv", rows_of_split)
    return Catalogue(tmp_path / "clean", tmp_path / "split.csv", FLAGS)


def ids(catalogue: Catalogue, wanted: Filter) -> str:
    return "".join(entry.id for entry in catalogue.entries(catalogue.select(wanted)))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), "cad"),  # wrong labels first, each image once
        (Filter(FlagKind.DARK), "dc"),
        (Filter(FlagKind.BLURRED), ""),
        (Filter(everything=True), "abcde"),
        (Filter(everything=True, label="cat"), "ace"),
        (Filter(everything=True, split="train"), "ab"),
        (Filter(everything=True, split=LEFT_OUT), "e"),
        (Filter(label="cat", split="val"), "c"),
        (Filter(hidden_ids={"c", "unknown"}), "ad"),
    ],
)
def test_images_are_listed_by_reason_class_and_split(
    catalogue: Catalogue, wanted: Filter, expected: str
) -> None:
    assert ids(catalogue, wanted) == expected


def test_an_image_has_all_its_notes(catalogue: Catalogue) -> None:
    entry = next(iter(catalogue.entries(catalogue.rows_of(["c"]))))
    assert (entry.label, entry.split, entry.looks_like) == ("cat", "val", "dog")
    assert entry.notes == ("looks like dog", "dark: 2")


def test_images_and_flags_are_counted(catalogue: Catalogue) -> None:
    assert (len(catalogue), catalogue.flagged_count) == (5, 3)
    assert catalogue.counts == dict.fromkeys(FlagKind, 0) | {FlagKind.LABEL: 2, FlagKind.DARK: 2}
    assert catalogue.classes == ["cat", "dog"]
    assert catalogue.splits == ["train", "val", "test", LEFT_OUT]


def test_an_unknown_id_has_no_row(catalogue: Catalogue) -> None:
    assert catalogue.rows_of(["b", "unknown"]).tolist() == [1, -1]
    assert catalogue.rows_of([]).tolist() == []
