"""RawImage and SkippedItem: what every source yields."""

from dataclasses import dataclass, fields
from enum import StrEnum

from pipeline.core import shards
from pipeline.core.skipped_csv import SkippedRow


@dataclass(frozen=True)
class RawImage:
    """The bytes of one file as the source has them, not decoded, and where they come from."""

    name: str
    label: str
    data: bytes
    split: str | None = None
    """train, val or test where the source prescribes it."""
    licence: str | None = None
    group: str | None = None
    """Images of one group go to one split: photographs of one owner look alike."""
    owner: str | None = None
    title: str | None = None
    url: str | None = None
    page_url: str | None = None
    sha256: str | None = None
    """Of the data, if it was computed or checked already."""

    def row(self) -> dict[str, object]:
        """As a row of a raw shard; the id is the sha256 of the bytes."""
        row = dict(vars(self))
        data, sha256 = row.pop("data"), row.pop("sha256")
        return {"id": sha256 or shards.digest(data)} | row | {"bytes": data}


class SkipReason(StrEnum):
    """Why an item of a source was left out; skipped_csv.MEANING says it to people."""

    # Downloads.
    BAD_ADDRESS = "bad_address"  # not http or https, or not a URL at all
    PRIVATE_ADDRESS = "private_address"  # inside a private network
    UNREACHABLE = "unreachable"  # no complete response in all attempts
    GONE = "gone"  # 404, 410, or Flickr's placeholder
    FORBIDDEN = "forbidden"  # 401, 403, 451
    REFUSED = "refused"  # any other status
    ROBOTS = "robots"  # its X-Robots-Tag forbids machine learning
    TOO_LARGE = "too_large"  # past acquire.max_file_megabytes
    NOT_AN_IMAGE = "not_an_image"  # a web page, or empty
    CHANGED = "changed"  # its sha256 differs from the pinned one
    # Search results.
    TWO_CLASSES = "two_classes"  # two searches or tables have it, with different classes
    REPEATED = "repeated"  # same bytes as another photograph of the set
    # Members of an archive or folder.
    OUTSIDE_CLASS_FOLDERS = "outside_class_folders"
    OTHER_KIND = "other_kind"  # no image by its name: a film, a text
    COPIED_FOLDER = "copied_folder"  # in a copy of class folders, beside them
    MISSING = "missing"  # a table names it, but it is not there
    UNLABELLED = "unlabelled"  # neither its name nor a table has a label
    UNSAFE_NAME = "unsafe_name"  # an absolute path, or one that leaves the archive
    NOT_A_FILE = "not_a_file"  # a dangling or repeated link, or a device
    ENCRYPTED = "encrypted"
    UNREADABLE = "unreadable"  # a folder without read permission


@dataclass(frozen=True)
class SkippedItem:
    """An item of the source that did not become a raw image."""

    name: str
    reason: SkipReason
    label: str | None = None
    url: str | None = None

    def row(self) -> tuple[str, ...]:
        """As a row of skipped.csv."""
        return (self.name, self.label or "", self.url or "", self.reason.value)


SKIPPED_COLUMNS = tuple(field.name for field in fields(SkippedRow))
