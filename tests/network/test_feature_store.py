from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.network import feature_arrays, feature_store
from pipeline.network.examples import Examples, read_examples
from pipeline.network.frozen_prefix import FrozenPrefix
from tests.builders.clean_rows import clean_row
from tests.builders.features import feature_index

INDEX = feature_index(
    augment="crop-flip",
    augmentation={"crop": [[0.5, 1.0], [0.75, 1.3333]], "flip": []},
    views=2,
    shapes=[[8, 2, 2], [3]],
)


def test_examples_are_read_in_their_order(tmp_path: Path) -> None:
    rows = [
        SplitRow("a", "dog", "val", "a"),
        SplitRow("b", "cat", "train", "a"),
        SplitRow("c", "dog", "train", "c"),
    ]
    write_split(tmp_path / "split.csv", rows)
    clean = write_clean(tmp_path, {"c": b"3", "b": b"2", "x": b"", "a": b"1"})
    examples = read_examples(tmp_path / "split.csv", clean)
    assert (examples.ids.to_pylist(), examples.classes) == (["a", "b", "c"], ["cat", "dog"])
    assert examples.labels.tolist() == [1, 0, 1]
    assert examples.stored.to_pylist() == list(map(shards.digest, (b"1", b"2", b"3")))
    rows_of = [examples.rows(split).tolist() for split in ("train", "val", "test")]
    assert rows_of == [[1, 2], [0], []]
    assert examples.ids_of(examples.rows("train")) == ["b", "c"]


def write_clean(folder: Path, images: Mapping[str, bytes]) -> Path:
    rows = [clean_row(key, data) for key, data in images.items()]
    shards.write(folder / "clean", shards.CLEAN, rows)
    return folder / "clean"


def test_an_image_that_the_shards_lack_is_an_error(tmp_path: Path) -> None:
    write_split(tmp_path / "split.csv", [SplitRow("b", "cat", "train", "a")])
    with pytest.raises(PipelineError, match=r"clean lacks the image 'b', which .*run `dvc repro`"):
        read_examples(tmp_path / "split.csv", write_clean(tmp_path, {"a": b""}))


def test_the_digest_is_of_ids_and_splits_and_bytes() -> None:
    def digest(ids: str, splits: str, stored: str, labels: Sequence[int] = (0, 1)) -> str:
        values = list(ids), torch.tensor(labels), list(splits), ["x", "y"], list(stored)
        return Examples.of(*values).digest()

    assert digest("ab", "tv", "12") == digest("ab", "tv", "12", (1, 0))
    others = [("ab", "tv", "12"), ("ac", "tv", "12"), ("ab", "vt", "12"), ("ab", "tv", "13")]
    assert len({digest(*other) for other in others}) == 4


def test_features_of_other_splits_or_pixels_are_refused(tmp_path: Path) -> None:
    examples = Examples.of(["a"], torch.tensor([0]), ["train"], ["x"], ["1"])
    index = INDEX.model_copy(update={"images": examples.digest()})
    feature_store.check_images(tmp_path, index, examples)
    other_split = replace(examples, splits=columns.texts(["val"]))
    other_bytes = replace(examples, stored=columns.texts(["2"]))
    for other in (other_split, other_bytes):
        with pytest.raises(PipelineError, match=r"computed for another data/split\.csv, or for"):
            feature_store.check_images(tmp_path, index, other)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_array_that_is_cut_short_is_refused_and_named(tmp_path: Path, share: float) -> None:
    path = feature_store.array_path(tmp_path, 0, 0)
    np.save(path, np.ones((4, 8), np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    prefix = cast("FrozenPrefix", SimpleNamespace(devices=[torch.device("cpu")], sub_batch=16))
    examples = Examples.of(["a"], torch.tensor([0]), ["train"], ["x"], ["1"])
    features = feature_store.StoredFeatures(tmp_path, INDEX, examples, prefix)
    with pytest.raises(PipelineError, match=r"view_0\.tensor_0\.npy is damaged .*doctor"):
        next(features.batches([np.array([0])], 0))


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    feature_store.write_index(tmp_path, INDEX)
    assert feature_store.read_index(tmp_path) == INDEX


def test_stored_views_take_turns_and_others_never_repeat() -> None:
    assert [INDEX.view_of(epoch) for epoch in range(4)] == [1, 2, 0, 1]
    whole = INDEX.model_copy(update={"prefix": ""})
    assert [whole.view_of(epoch) for epoch in range(4)] == [1, 2, 3, 4]
    assert whole.model_copy(update={"augment": "none"}).view_of(3) == 0


STORED = INDEX.model_copy(update={"dtype": "float16"})
EXAMPLES = Examples.of(
    [str(row) for row in range(40)],
    torch.arange(40) % 2,
    ["val" if row % 4 == 0 else "train" for row in range(40)],
    ["x", "y"],
    [str(row) for row in range(40)],
)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Features of `EXAMPLES`: float16 of random numbers."""
    random = np.random.default_rng(0)
    for view in range(STORED.views + 1):
        count = 30 if view else 40
        for tensor, shape in enumerate(STORED.shapes):
            values = random.normal(size=(count, *shape)).astype(np.float16)
            np.save(feature_store.array_path(tmp_path, view, tensor), values)
    return tmp_path


def open_stored(folder: Path, devices: int = 1) -> feature_store.StoredFeatures:
    prefix = SimpleNamespace(devices=[torch.device("cpu")] * devices, sub_batch=4)
    return feature_store.StoredFeatures(folder, STORED, EXAMPLES, cast("FrozenPrefix", prefix))


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("view", [0, 2])
def test_features_in_the_memory_of_a_device_equal_those_on_the_disk(
    stored: Path, monkeypatch: pytest.MonkeyPatch, view: int, devices: int
) -> None:
    order = list(map(np.array, [[3, 1], [39], [9, 5, 7, 3], [1], [2, 6]]))
    size = int(STORED.gigabytes(40, 30) * 1e9)
    copied: list[int] = []
    copy_to = feature_arrays.copy_to

    def recording(where: torch.device, array: feature_arrays.Array) -> torch.Tensor:
        copied.append(array.nbytes)
        return copy_to(where, array)

    monkeypatch.setattr(feature_arrays, "copy_to", recording)
    results = []
    for free in (0, 2 * size - 1, 2 * size):
        monkeypatch.setattr(feature_arrays, "free_memory", lambda _, free=free: free)
        assert not copied
        results.append(list(open_stored(stored, devices).batches(order, view)))
    assert copied
    for first, *others in zip(*results, strict=True):
        assert all(map(torch.equal, first, others[0]))
        assert all(map(torch.equal, first, others[1]))
        assert all(value.dtype is torch.float32 for value in others[1])


def test_a_view_is_copied_to_a_device_once(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_arrays, "free_memory", lambda _: 2**30)
    source = open_stored(stored)
    first = list(source.batches([np.array([1, 2]), np.array([3])], 1))
    for path in stored.iterdir():
        path.unlink()
    again = list(source.batches([np.array([1, 2]), np.array([3])], 1))
    assert all(torch.equal(*pair) for pair in zip(first[0], again[0], strict=True))


def test_no_rows_give_no_batches(stored: Path) -> None:
    assert list(open_stored(stored).batches([], 0)) == []


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float16", 2)])
def test_the_size_counts_every_view_of_the_training_images(dtype: str, size: int) -> None:
    index = INDEX.model_copy(update={"dtype": dtype})
    assert index.gigabytes(10**6, 10**5) == pytest.approx(1.2e6 * 35 * size / 1e9)


@pytest.mark.parametrize(
    ("rows", "size", "least", "expected"),
    [
        (5, 2, 2, [[0, 1], [2, 3, 4]]),
        (1, 2, 2, [[0]]),
        (4, 2, 2, [[0, 1], [2, 3]]),
        (7, 4, 4, [[0, 1, 2, 3, 4, 5, 6]]),
        (5, 2, 1, [[0, 1], [2, 3], [4]]),
        (0, 2, 2, []),
    ],
)
def test_a_last_list_that_is_too_short_joins_the_one_before(
    rows: int, size: int, least: int, expected: list[list[int]]
) -> None:
    chunks = feature_store.chunks(np.arange(rows), size, least)
    assert [chunk.tolist() for chunk in chunks] == expected
