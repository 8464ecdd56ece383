from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pipeline.network.examples import Examples, read_examples
from pipeline.network.feature_store import Source, StoredFeatures, array_path
from pipeline.network.views import EVALUATION
from pipeline.stages.evaluate import neighbours
from pipeline.stages.evaluate.neighbours import PER_MISTAKE, SIDE, find_neighbours
from tests.builders.features import feature_index

Floats = npt.NDArray[np.float32]


@pytest.fixture
def examples(dataset: Path) -> Examples:
    return read_examples(dataset / "split.csv", dataset / "clean")


def stored(examples: Examples, *arrays: Floats) -> StoredFeatures:
    """Features on disk: an array (N, ...) for each tensor at the cut."""
    folder = Path("features")
    folder.mkdir()
    for number, array in enumerate(arrays):
        np.save(array_path(folder, EVALUATION, number), array)
    index = feature_index(shapes=[list(array.shape[1:]) for array in arrays])
    prefix: Any = SimpleNamespace(devices=[torch.device("cpu")], sub_batch=8)
    return StoredFeatures(folder, index, examples, prefix)


def cosines(values: Floats, row: int, rows: npt.NDArray[np.int64]) -> Floats:
    """The similarities of one row to others."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    similarities: Floats = unit[rows] @ unit[row]
    return similarities


def random(*shape: int) -> Floats:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shapes", "pooled_axes"),
    [
        ([(5,)], None),
        ([(5,), (3,)], None),
        ([(5, 2, 2)], (2, 3)),  # (channels, height, width)
        ([(2, 2, 5)], (1, 2)),  # channels last
    ],
)
def test_neighbours_are_the_training_images_of_the_greatest_cosine(
    dataset: Path, examples: Examples, shapes: list[tuple[int, ...]], pooled_axes: Any
) -> None:
    arrays = [random(len(examples), *shape) for shape in shapes]
    rows, training = examples.rows("test")[:3], examples.rows("train")
    answer = find_neighbours(stored(examples, *arrays), examples, rows, dataset / "clean")
    values = np.concatenate(
        [array.mean(axis=pooled_axes) if pooled_axes else array for array in arrays], axis=1
    )
    assert (answer.searched, answer.training) == (len(training), len(training))
    for row, similar in zip(rows.tolist(), answer.of_images, strict=True):
        similarities = cosines(values, row, training)
        best = np.argsort(-similarities)[:PER_MISTAKE]
        assert [image.similarity for image in similar] == pytest.approx(
            similarities[best].tolist(), abs=1e-6
        )
        labels = examples.labels[training[best]].tolist()
        assert [image.label for image in similar] == [examples.classes[label] for label in labels]
        assert all(max(image.pixels.shape[:2]) <= SIDE for image in similar)


@pytest.mark.parametrize(("name", "limit"), [("MAX_TRAINING", 7), ("MAX_VALUES", 7 * 5 + 4)])
def test_of_many_training_images_the_first_are_searched(
    dataset: Path,
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    limit: int,
) -> None:
    monkeypatch.setattr(neighbours, name, limit)
    values, rows = random(len(examples), 5), examples.rows("test")[:1]
    answer = find_neighbours(stored(examples, values), examples, rows, dataset / "clean")
    assert answer.searched == 7 < answer.training
    similarities = cosines(values, int(rows[0]), examples.rows("train")[:7])
    (similar,) = answer.of_images
    assert similar[0].similarity == pytest.approx(float(similarities.max()), abs=1e-6)


def test_without_stored_features_there_are_no_neighbours(dataset: Path, examples: Examples) -> None:
    streamed = cast("Source", object())
    answer = find_neighbours(streamed, examples, examples.rows("test")[:2], dataset / "clean")
    assert (answer.of_images, answer.searched) == ([[], []], 0)


def test_without_mistakes_nothing_is_read(dataset: Path, examples: Examples) -> None:
    source = stored(examples)  # without arrays
    answer = find_neighbours(source, examples, examples.rows("test")[:0], dataset / "clean")
    assert answer.of_images == []
