import gc
import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.network import examples as network_examples
from pipeline.network.examples import Examples, digest_lines, read_examples
from tests.builders.clean_rows import clean_row

COUNT = 7


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the columns of an example in several chunks."""
    monkeypatch.setattr(columns, "CHUNK", 3)


def make_examples() -> Examples:
    splits = ["train", "val", "train", "test", "train", "val", "train"]
    ids, stored = [f"id{row}" for row in range(COUNT)], [f"d{row}" for row in range(COUNT)]
    return Examples.of(ids, torch.arange(COUNT) % 2, splits, ["x", "y"], stored)


def test_the_digest_is_that_of_the_lines_of_ids_splits_and_bytes() -> None:
    """Features on disk and their memos have it: another value would compute them anew."""
    lines = b"id0 train d0\nid1 val d1\nid2 train d2\nid3 test d3\nid4 train d4\nid5 val d5\n"
    expected = hashlib.sha256(lines + b"id6 train d6").hexdigest()
    assert make_examples().digest() == expected


def test_the_facts_are_the_key_label_and_split_of_each_row() -> None:
    facts = list(make_examples().facts())
    assert facts[:4] == [
        ("id0:d0", 0, "train"),
        ("id1:d1", 1, "val"),
        ("id2:d2", 0, "train"),
        ("id3:d3", 1, "test"),
    ]
    assert len(facts) == COUNT
    # Models have the digest of these lines in their fingerprint.
    assert digest_lines(map(str, facts[:2])) == (
        hashlib.sha256(b"('id0:d0', 0, 'train')\n('id1:d1', 1, 'val')").hexdigest()
    )


def test_ids_and_keys_are_those_of_the_rows_in_their_order() -> None:
    examples = make_examples()
    rows = np.array([5, 0])
    assert examples.ids_of(rows) == ["id5", "id0"]
    assert examples.keys_of(rows).to_pylist() == ["id5:d5", "id0:d0"]
    assert examples.rows("train").tolist() == [0, 2, 4, 6]
    assert examples.rows("none").tolist() == []


def test_no_image_is_a_python_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's memory is not counted here; an id as a Python string would take 113 bytes."""
    monkeypatch.setattr(columns, "CHUNK", 500)
    count = 2_000
    ids = [f"{row:064}" for row in range(count)]
    rows = [SplitRow(key, f"class {row % 2}", "train", "") for row, key in enumerate(ids)]
    write_split(tmp_path / "split.csv", rows)
    shards.write(tmp_path / "clean", shards.CLEAN, map(clean_row, ids))
    read_examples(tmp_path / "split.csv", tmp_path / "clean")  # what is imported or cached once
    gc.collect()
    tracemalloc.start()
    try:
        examples = read_examples(tmp_path / "split.csv", tmp_path / "clean")
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(examples) == count
    assert used < 40 * count


def test_more_images_than_a_column_holds_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_examples, "MAX_IMAGES", 1000)
    path = tmp_path / "split.csv"
    write_split(path, (SplitRow(f"{number:04}", "cat", "train", "") for number in range(1001)))
    with pytest.raises(PipelineError) as caught:
        read_examples(path, tmp_path)
    assert str(caught.value) == (
        f"{path} has 1,001 images, and features, train and evaluate can use 1,000: "
        "use a part of them"
    )
