import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.stages.evaluate import probabilities
from pipeline.stages.evaluate.class_scores import ClassScores, temporary_class_scores
from pipeline.stages.evaluate.predictions_csv import TOP_CLASSES


@given(
    st.integers(1, 70), st.sampled_from([2, 5, 30, 45]), st.sampled_from([0, 1, 9]), st.integers(0)
)
@settings(derandomize=True, max_examples=60)
def test_nothing_is_lost_whatever_the_blocks(
    images: int, classes: int, decimals: int, seed: int
) -> None:
    """Scores of few decimals tie, also for the last of the top classes."""
    random = np.random.default_rng(seed)
    scores = (random.normal(size=(images, classes)) * 4).round(decimals).astype(np.float32)
    labels, temperature = random.integers(0, classes, images), 1.7
    columns = ClassScores(io.BytesIO(), images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probabilities, "BLOCK", int(random.integers(1, 2 * scores.size)))
        batches = np.array_split(scores, int(random.integers(1, images + 1)))
        reduced = probabilities.reduce_scores(batches, labels, temperature, columns)
    for divisor, of_images in ((1.0, reduced.as_trained), (temperature, reduced.calibrated)):
        values = softmax(scores.astype(np.float64) / divisor, axis=1)
        assert np.array_equal(of_images.predicted, values.argmax(axis=1))
        assert np.array_equal(of_images.of_predicted, values.max(axis=1))
        assert np.array_equal(of_images.of_label, values[np.arange(images), labels])
    top = np.argsort(-values, axis=1, kind="stable")[:, :TOP_CLASSES]
    assert np.array_equal(reduced.top.classes, top)
    assert np.array_equal(reduced.top.probabilities, np.take_along_axis(values, top, axis=1))
    assert reduced.top.count == min(classes, TOP_CLASSES)
    for number in range(classes):
        column = reduced.normaliser.probabilities(columns.of_class(number))
        assert np.array_equal(column, values[:, number])


def test_scores_are_read_by_class_from_a_file_without_a_name(root: Path) -> None:
    scores = np.arange(12, dtype=np.float32).reshape(4, 3)
    with temporary_class_scores(4) as columns:
        columns.append(scores[:3])
        columns.append(scores[3:])
        assert [columns.of_class(number).tolist() for number in range(3)] == scores.T.tolist()
        assert list((root / ".cache").iterdir()) == []
