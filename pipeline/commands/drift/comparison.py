"""New images against those of the data set: the tests, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.commands.drift.distances import FAR, MIN_HELD_OUT, mean_distances, tail_shares
from pipeline.commands.drift.far_images import FarCount, compare_far, count_far, far_classes
from pipeline.commands.drift.sample import Floats, Sample
from pipeline.commands.drift.two_sample import MIN_GROUPS, TwoSampleTest, run_test
from pipeline.core.percentages import format_level, format_share
from pipeline.core.plurals import plural
from pipeline.experiments.comparison import list_names
from pipeline.experiments.promotion.superiority import holm
from pipeline.stages.evaluate.intervals import ALONE, Groups

ALL, CLASSIFIER, DISTANCE = "all", "classifier", "distance"


@dataclass(frozen=True)
class DriftComparison:
    """New images against the training images, with held-out images as a measure."""

    images: int
    classifier: TwoSampleTest | None
    """None if there are too few images."""
    far: FarCount
    """Of all classes together."""
    classes: Sequence[FarCount]
    distances: Floats
    """(N,) From the training images."""
    is_far: npt.NDArray[np.bool_]
    """(N,)"""
    level: float
    """Probability of a false alarm, at most."""

    @property
    def p_values(self) -> Mapping[str, float]:
        """By test."""
        p_values = {CLASSIFIER: self.classifier.p} if self.classifier else {}
        return p_values | ({DISTANCE: self.far.p} if self._has_distances else {})

    @cached_property
    def far_classes(self) -> Sequence[str]:
        """With more far images than among the held-out ones, at `level` for all together.

        None unless the test of all classes together shows it: the classes would otherwise be a
        further chance of a false alarm.
        """
        is_far = DISTANCE in holm(self.p_values, self.level)
        return far_classes(self.classes, self.level) if is_far else []

    @property
    def is_shown(self) -> bool:
        """Whether one of the tests shows a difference, at `level` for both together (Holm)."""
        return bool(holm(self.p_values, self.level))

    def sentences(self) -> list[str]:
        """The result, for people."""
        images = plural(self.images, "new image")
        verdict = (
            f"The {images} {'differs' if self.images == 1 else 'differ'} from the training images"
            if self.is_shown
            else f"No difference between the {images} and the training images is shown"
        )
        sentences = [f"{verdict} (false alarm rate: at most {format_level(self.level)})."]
        sentences += [self._describe_classifier(), self._describe_far()]
        if self.far_classes:
            sentences.append(
                f"Classes with more far images than expected: {list_names(self.far_classes)}."
            )
        return sentences

    def _describe_classifier(self) -> str:
        test = self.classifier
        if test is None:
            return (
                f"There are too few images for the classifier test: it needs {MIN_GROUPS} new "
                f"images and {MIN_GROUPS} training images, without near-duplicates."
            )
        return (
            "Given a new image and a training image, a classifier tells which is the new one in "
            f"{format_share(test.auc)} of cases; guessing gives 50 % (permutation test, "
            f"p = {test.p:.2g}, on {test.new_groups} new and {test.training_groups} training "
            "images)."
        )

    @property
    def _has_distances(self) -> bool:
        return self.far.other_images >= MIN_HELD_OUT

    def _describe_far(self) -> str:
        far = self.far
        if not self._has_distances:
            return (
                f"Which images are far cannot be said: that needs {MIN_HELD_OUT} validation and "
                "test images that are not near-duplicates of each other, and there are "
                f"{far.other_images}."
            )
        return (
            f"{far.far} of {plural(far.images, 'new image')} {'is' if far.far == 1 else 'are'} "
            f"far: further from the training images than {format_share(1 - FAR, 0)} of the "
            f"validation and test images, of which {far.other_far} of {far.other_images} count as "
            f"far (Fisher's exact test, p = {far.p:.2g})."
        )


def compare_samples(
    training: Sample, held_out: Sample, new: Sample, level: float
) -> DriftComparison:
    """Compare new images with the training images.

    Args:
        training: To which distances are measured.
        held_out: Images that are like the training images, and did not train.
        level: Probability of a false alarm, at most.
    """
    # Near-duplicates and images of one owner are far or near together: the first one counts.
    first_others = first_of_groups(held_out.groups)
    distances = mean_distances(held_out.values[first_others], training.values)
    new_distances = mean_distances(new.values, training.values)
    is_far = tail_shares(new_distances, distances) <= FAR
    is_far_other = tail_shares(distances, distances) <= FAR
    is_first = first_of_groups(new.groups)
    classes = [new.classes[row] for row in np.flatnonzero(is_first).tolist()]
    other_classes = [held_out.classes[row] for row in np.flatnonzero(first_others).tolist()]
    counts = compare_far(
        count_far(classes, is_far[is_first]), count_far(other_classes, is_far_other)
    )
    (far,) = compare_far(
        count_far(classes, is_far[is_first], ALL), count_far(other_classes, is_far_other, ALL)
    )
    return DriftComparison(
        len(new),
        run_test(training, new),
        far,
        counts,
        new_distances,
        is_far,
        level,
    )


def first_of_groups(groups: Groups) -> npt.NDArray[np.bool_]:
    """(N,) Whether each image is the first of its group."""
    is_first: npt.NDArray[np.bool_] = groups == ALONE
    is_first[np.unique(groups, return_index=True)[1]] = True
    return is_first
