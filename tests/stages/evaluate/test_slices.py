"""Slices of the test set, from facts in columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core import columns, shards
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.stages.evaluate import slices
from pipeline.stages.evaluate.slices import ImageFacts, read_facts

INPUT_SIDE = 256  # pixels


def facts(
    names: Sequence[str],
    labels: Sequence[str],
    sides: Sequence[int] = (),
    near: Sequence[bool] = (),
    licences: Sequence[str | None] = (),
) -> ImageFacts:
    count = len(names)
    return ImageFacts(
        columns.texts(labels),
        columns.texts([""] * count),
        np.array(near or [False] * count),
        np.zeros(count, bool),
        np.array(sides or [500] * count, np.int32),
        columns.texts(names),
        pa.array(licences or [None] * count, pa.string()),
    )


def counts(images: ImageFacts) -> dict[str, int]:
    masks = slices.slices(images, INPUT_SIDE)
    return {name: int(selected.sum()) for name, selected in masks.items()}


@pytest.mark.parametrize(
    ("near", "sides", "names"),
    [
        ([False, False], [500, 500], set()),
        ([True, False], [500, 500], {"near_duplicates", "no_near_duplicates"}),
        ([False, False], [10, 500], {"enlarged", "not_enlarged"}),
    ],
)
def test_slices_of_all_or_no_images_are_left_out(
    near: list[bool], sides: list[int], names: set[str]
) -> None:
    images = facts(["a/1.jpg", "a/2.jpg"], ["a", "a"], sides, near)
    assert counts(images) == dict.fromkeys(names, 1)


def test_slices_by_folder_below_a_class_folder_in_another_unicode_form() -> None:
    names = [f"cafe\u0301/{folder}/1.jpg" for folder in "xy"]
    assert counts(facts(names, ["caf\u00e9"] * 2)) == {"folder x": 1, "folder y": 1}


def test_slices_by_folder_and_licence() -> None:
    names = ["set/a/phone/1.jpg", "set/a/phone/2.jpg", "set/b/web/x/3.jpg", "set/b/4.jpg"]
    licences = ["CC BY 4.0", None, None, None]
    assert counts(facts(names, list("aabb"), licences=licences)) == {
        "folder phone": 2,
        "folder web/x": 1,
        "folder none": 1,
        "licence CC BY 4.0": 1,
        "licence none": 3,
    }


def test_the_most_frequent_folders_are_slices() -> None:
    folders = [folder for number, folder in enumerate("abcdefghij", 1) for _ in range(number)]
    names = [f"x/{folder}/{number}.jpg" for number, folder in enumerate(folders)]
    largest = counts(facts(names, ["x"] * len(names)))
    assert largest == {f"folder {folder}": ord(folder) - 96 for folder in "cdefghij"}


def test_facts_are_in_the_order_of_the_images(tmp_path: Path) -> None:
    """Whatever the order of the shards, in several of them, beside images that are not asked."""
    rows = [
        {
            "id": key,
            "label": f"label {key}",
            "name": f"{key}.jpg",
            "width": 100 + number,
            "height": 300 - 100 * number,
            "phash": 0,
            shards.STORED: key,
            "near_group": "a" if key == "a" else None,
            "licence": "CC0 1.0" if key == "c" else None,
            "bytes": b"",
        }
        for number, key in enumerate("cab")
    ]
    batches = [pa.RecordBatch.from_pylist([row], schema=shards.CLEAN) for row in rows]
    clean, split_csv = tmp_path / "clean", tmp_path / "split.csv"
    shards.write_batches(clean, shards.CLEAN, batches)
    write_split(split_csv, [SplitRow(key, "x", "test", f"of {key}") for key in "abc"])
    images = read_facts(clean, split_csv, columns.texts(["b", "c"]))
    assert len(images) == 2
    assert images.names.to_pylist() == ["b.jpg", "c.jpg"]
    assert images.labels.to_pylist() == ["label b", "label c"]
    assert images.groups.to_pylist() == ["of b", "of c"]
    assert images.sides.tolist() == [100, 100]
    assert images.is_near.tolist() == [False, False]
    assert images.licences.to_pylist() == [None, "CC0 1.0"]
    assert read_facts(clean, split_csv, columns.texts(["a"])).is_near.tolist() == [True]


def test_leaked_images_are_those_whose_group_is_in_train_or_val_too(tmp_path: Path) -> None:
    row = {"label": "x", "name": "x.jpg", "width": 9, "height": 9, "phash": 0, "bytes": b""}
    rows = [row | {"id": key, shards.STORED: key} for key in "abcde"]
    clean, split_csv = tmp_path / "clean", tmp_path / "split.csv"
    batch = pa.RecordBatch.from_pylist(rows, schema=shards.CLEAN)
    shards.write_batches(clean, shards.CLEAN, [batch])
    splits = {"a": ("test", "ann"), "b": ("train", "ann"), "c": ("test", "bob")}
    splits |= {"d": ("val", ""), "e": ("test", "")}
    write_split(split_csv, [SplitRow(key, "x", *values) for key, values in splits.items()])
    images = read_facts(clean, split_csv, columns.texts(["a", "c", "e"]))
    assert images.is_leaked.tolist() == [True, False, False]
    assert {name: n for name, n in counts(images).items() if "leaked" in name} == {
        "leaked": 1,
        "not_leaked": 2,
    }
