"""Splits that dataset.toml names, and no image is in."""

import difflib
from collections.abc import Collection, Iterable, Mapping

from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc

MIN_SIMILARITY = 0.75  # of two spellings of one name, by difflib


def describe_unused_splits(
    splits: Mapping[str, str], used: Collection[str | None], names: Iterable[str], toml: str
) -> list[str]:
    """Say which splits no image is in: copies of a data set may lack some.

    Args:
        splits: Name of a split, in lower case -> split.
        used: The splits of the images.
        names: Of the images, with forward slashes.
        toml: The path of dataset.toml, for messages.

    Raises:
        PipelineError: a folder has nearly the name of one, so that one of them is misspelt.
    """
    unused = [name for name, split in splits.items() if split not in used]
    if not unused:
        return []
    folders = {folder for name in names for folder in to_nfc(name).lower().split("/")[:-1]}
    for name in unused:
        others = sorted(folders - splits.keys())
        if close := difflib.get_close_matches(name, others, n=1, cutoff=MIN_SIMILARITY):
            raise PipelineError(
                f"{toml}: no image is in {name!r}, which splits names: did you mean the folder "
                f"{close[0]!r}?"
            )
    return [f"no image is in {', '.join(unused)}, which splits of {toml} names"]
