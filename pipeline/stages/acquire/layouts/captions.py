"""Texts that hardly repeat: captions, measurements or names of single images, no labels."""

import pyarrow.compute as pc

from pipeline.core.columns import Column, encode
from pipeline.core.plurals import plural

MAX_SHARE = 0.5  # of distinct labels in the images that have one
MIN_DISTINCT = 3  # fewer may be the classes of a few images


def are_captions(distinct: int, count: int) -> bool:
    """Whether so many distinct texts of so many images hardly repeat."""
    return distinct >= max(MIN_DISTINCT, int(MAX_SHARE * count) + 1)


def describe_captions(labels: Column, origin: str) -> str | None:
    """Why labels are none; None if they are.

    Args:
        labels: Of each image; "" where there is none.
        origin: Where they come from.
    """
    used = labels.filter(pc.not_equal(labels, ""))
    distinct = len(encode(used)[1])
    if not are_captions(distinct, len(used)):
        return None
    return (
        f"{origin}: {plural(distinct, 'text')} for {plural(len(used), 'image')} are captions or "
        "numbers, not classes: say with label_column which column has the labels, or that it is "
        "this one"
    )
