"""Whether all classes are in all splits: refuse what cannot be trained, warn of the rest."""

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.core.terminal import warn
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.images import Images, Ranks

MAX_NAMED = 5  # classes in the warning; data.html has all

Counts = npt.NDArray[np.int64]
"""(classes, splits) images."""


def check_classes(images: Images, splits: Ranks, params: SplitParams) -> None:
    """Refuse a split that cannot be used to train or evaluate; warn of classes without a test.

    Raises:
        PipelineError: there is one class only; a class has no image in train, or, with
            `split.incomplete_classes` fail, in val or test; or fewer than two have one there.
    """
    if len(images.classes) < 2:
        raise PipelineError(
            f"all images are of the class {images.classes[0]!r}: a classifier needs at least two "
            "classes"
        )
    counts = count_images(images, splits)
    for rank, name in enumerate(SPLITS):
        missing = np.flatnonzero(counts[:, rank] == 0)
        is_unusable = name == "train" or params.incomplete_classes == "fail"
        if len(missing) and (is_unusable or len(images.classes) - len(missing) < 2):
            label = missing[0]
            raise PipelineError(
                f"class {images.classes[label]!r} has no image in {name} (of "
                f"{counts[label].sum()} in all): add images, change split.val and split.test, try "
                "another split.seed, or, where the source prescribes splits, set "
                "split.prescribed=false"
            )
    _warn_of_incomplete_classes(images.classes, counts)


def count_images(images: Images, splits: Ranks) -> Counts:
    """Images of each class in each split."""
    used = splits >= 0
    pairs = images.labels[used].astype(np.int64) * len(SPLITS) + splits[used]
    shape = (len(images.classes), len(SPLITS))
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def _warn_of_incomplete_classes(classes: list[str], counts: Counts) -> None:
    for rank, name in enumerate(SPLITS):
        missing = np.flatnonzero(counts[:, rank] == 0)
        if not len(missing):
            continue
        named = [f"{classes[label]} ({counts[label].sum()})" for label in missing[:MAX_NAMED]]
        if len(missing) > MAX_NAMED:
            named.append(f"and {len(missing) - MAX_NAMED} more")
        have = "class has" if len(missing) == 1 else "classes have"
        warn(
            f"{len(missing)} {have} no image in {name} (images in all): {', '.join(named)}; "
            "a class needs three groups of images to be in every split, so add images, or refuse "
            "such classes with split.incomplete_classes=fail"
        )
