"""Images by their features, with what drift needs to know of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.stages.evaluate.intervals import Groups

Values = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Some images."""

    values: Values
    """(N, D) Features; maps of features are averaged."""
    groups: Groups
    """(N,) Images of one group are not independent."""
    classes: Sequence[str]
    """Of each image: its label, or what the model takes it for."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Answers:
    """What the model says of some images."""

    classes: list[str]
    """The most probable class of each image."""
    confidence: Floats
    """(N,) Its calibrated probability."""


@dataclass(frozen=True)
class AnsweredImages:
    """New images, with what the model says of them."""

    sample: Sample
    answers: Answers
    names: Sequence[str]
    ids: Sequence[str]
    left_out: Counter[str]
    """Images that are not compared, by the reason."""
    clean: Path | None
    """The folder of their shards; None if only features are known."""
