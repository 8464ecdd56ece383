"""What a solver learns from: rows of features, their labels, and the groups that stay whole."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Table(Protocol):
    """Rows of features, (N, D): an array, a mapped file, or what computes rows when asked."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Numbers, /) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Problem:
    """N rows of D features, of K classes."""

    features: Table
    labels: Numbers
    """(N,) From 0 to K - 1."""
    groups: Numbers
    """(N,) Rows of one group (views of an image, near-duplicates, photographs of one owner) are
    never divided between fitting and judging."""
    classes: int
    weights: Floats
    """(N,) How much each row counts; 1 on average."""
    is_judged: Mask
    """(N,) Rows whose predictions count: of an image with augmented views, the evaluation view. A
    row whose class is in one group alone is not judged: without the group nothing is known of it.
    """

    @classmethod
    def of(
        cls,
        features: Table,
        labels: Numbers,
        groups: Numbers,
        classes: int,
        *,
        is_balanced: bool = False,
        is_judged: Mask | None = None,
    ) -> Self:
        """
        Args:
            is_balanced: Whether rows count inversely to the number of rows of their class.
            is_judged: None for all rows.

        Raises:
            PipelineError: there are fewer than two classes, or no class is in two groups.
        """
        counts = np.bincount(labels, minlength=classes)
        present = np.flatnonzero(counts)
        if len(present) < 2:
            raise PipelineError(
                "the images to learn from are all of one class: a classifier needs two or more"
            )
        pairs = np.unique(np.stack([labels, groups]), axis=1)
        is_known = np.bincount(pairs[0], minlength=classes)[labels] > 1
        judged = is_known if is_judged is None else is_judged & is_known
        if not judged.any():
            raise PipelineError(
                "each class has images of one group alone, and groups stay whole: none are left to "
                "judge a classifier by, so add images, or set head.kind=linear"
            )
        weights = np.ones(len(labels))
        if is_balanced:
            weights = len(labels) / (len(present) * counts[labels])
        return cls(features, labels, groups, classes, weights, judged)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def outputs(self) -> int:
        """Scores that are solved for: two classes need one."""
        return 1 if self.classes == 2 else self.classes

    def targets(self, rows: Numbers) -> Floats:
        """(B, outputs) 1 in the column of the label; of two classes, the second's column."""
        columns = np.arange(self.classes)[-self.outputs :]
        targets: Floats = (self.labels[rows, None] == columns).astype(np.float64)
        return targets


def both_scores(scores: Floats) -> Floats:
    """(..., K) Scores of all classes; of two classes, `scores` has the second's alone."""
    return np.concatenate([1 - scores, scores], axis=-1) if scores.shape[-1] == 1 else scores
