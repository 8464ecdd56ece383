"""Test results from scores."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core import columns
from pipeline.stages.evaluate import test_set
from pipeline.stages.evaluate.class_scores import ClassScores
from pipeline.stages.evaluate.test_set import TestSetResult


def result_of(
    labels: npt.ArrayLike,
    scores: npt.NDArray[Any],
    classes: Sequence[str],
    temperature: float = 1.0,
    batch: int = 16,
) -> TestSetResult:
    """The result of images with labels (N,) and scores (N, classes)."""
    numbers = np.asarray(labels, np.int64)
    ids = columns.texts([f"{number:064x}" for number in range(len(numbers))])
    rows = np.asarray(scores, np.float32)
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    in_memory = ClassScores(io.BytesIO(), len(ids))
    return test_set.collect(ids, numbers, list(classes), batches, temperature, in_memory)
