"""Scores that come image by image and are read class by class, in a temporary file.

Ten thousand classes and forty thousand images make 1.6 GB, too much to hold in memory.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import numpy.typing as npt

from pipeline.core import project

Scores = npt.NDArray[np.float32]


class ClassScores:
    """A file with the scores of all images, float32, for one class after the other."""

    def __init__(self, file: IO[bytes], images: int) -> None:
        self._file = file
        self._images = images
        self._written = 0
        """Images."""

    def append(self, scores: Scores) -> None:
        """Add the scores of the next images, (B, classes)."""
        for number, column in enumerate(np.ascontiguousarray(scores.T)):
            self._file.seek(self._offset(number, self._written))
            self._file.write(column.data)
        self._written += len(scores)

    def of_class(self, number: int) -> Scores:
        """(N,) The scores of all images for a class."""
        self._file.seek(self._offset(number, 0))
        return np.frombuffer(self._file.read(4 * self._images), np.float32)

    def _offset(self, number: int, image: int) -> int:
        return 4 * (number * self._images + image)


@contextmanager
def temporary_class_scores(images: int) -> Iterator[ClassScores]:
    """Scores of a number of images, until the block ends; next to the data, not in memory."""
    folder = project.cache()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        yield ClassScores(file, images)
