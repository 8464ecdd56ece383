"""Which classes have more images far from the training images than the held-out images have."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.experiments.promotion.superiority import holm

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FarCount:
    """The images of a class, and those of them that are far, in both sets; a group counts once."""

    name: str
    images: int
    far: int
    other_images: int
    """Held-out ones of the data set."""
    other_far: int

    @property
    def share(self) -> float:
        """Of far images among the new ones."""
        return self.far / self.images

    @property
    def p(self) -> float:
        """One-sided, that far images are no more frequent among the new ones; for independent
        images.

        Source: R. A. Fisher, "The design of experiments" (1935): his exact test of a 2x2 table.
        """
        from scipy.stats import hypergeom  # takes half a second

        total = self.images + self.other_images
        tail = hypergeom.sf(self.far - 1, total, self.far + self.other_far, self.images)
        return float(tail)


def count_far(classes: Sequence[str], is_far: Mask, name: str = "") -> dict[str, tuple[int, int]]:
    """By class, the number of images and of far ones; with a `name`, of all under that name."""
    keys = [name] * len(classes) if name else classes
    counts: dict[str, tuple[int, int]] = {}
    for key, far in zip(keys, is_far.tolist(), strict=True):
        images, number = counts.get(key, (0, 0))
        counts[key] = (images + 1, number + far)
    return counts


def compare_far(
    new: dict[str, tuple[int, int]], others: dict[str, tuple[int, int]]
) -> list[FarCount]:
    """The counts of each class of the new images, the class with most far images first."""
    counts = [
        FarCount(name, images, far, *others.get(name, (0, 0)))
        for name, (images, far) in new.items()
    ]
    return sorted(counts, key=lambda count: (-count.far, count.name))


def far_classes(counts: Sequence[FarCount], level: float) -> list[str]:
    """Classes with more far images than among the others, at `level` for all together (Holm)."""
    return holm({count.name: count.p for count in counts}, level)
