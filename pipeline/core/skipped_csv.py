"""skipped.csv: what the source lists and the raw shards lack, in the source's order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import csv_table


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """An item of the source that is no raw image."""

    name: str
    """As the source calls it."""
    label: str
    """Empty where the source has none."""
    url: str
    reason: str
    """A key of `MEANING`."""


MEANING: Mapping[str, str] = {
    "bad_address": "its address is not one of http or https",
    "private_address": "its address is inside a private network",
    "unreachable": "no complete response in all attempts",
    "gone": "deleted: status 404 or 410, or Flickr's placeholder",
    "forbidden": "its server refuses access: status 401, 403 or 451",
    "refused": "its server answers with another status than success",
    "robots": "its server forbids machine learning",
    "too_large": "larger than acquire.max_file_megabytes",
    "not_an_image": "a web page, or empty",
    "changed": "its sha256 is not the pinned one",
    "two_classes": "two searches or tables have it, with different classes",
    "repeated": "the same bytes as another photograph of the set",
    "outside_class_folders": "in no class folder",
    "other_kind": "no image by its name, such as a film or a text",
    "copied_folder": "in a copy of the class folders, beside them",
    "missing": "a table lists it, but it is not there",
    "unlabelled": "neither its name nor a table has a label",
    "unsafe_name": "its name leads out of the archive",
    "not_a_file": "a link that leads nowhere or to what was read already, or a device",
    "encrypted": "encrypted",
    "unreadable": "in a folder without read permission",
}
"""What each reason means, for people."""


def scan_skipped(path: Path) -> Iterator[SkippedRow]:
    """Read skipped.csv row by row, in constant memory.

    Raises:
        PipelineError: the file is damaged, or of another version.
    """
    return csv_table.scan(path, SkippedRow)
