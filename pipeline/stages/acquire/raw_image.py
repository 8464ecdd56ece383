"""What every kind of source yields: files, and those that were left out."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class RawImage:
    """One file as its source had it: nothing is known of it yet but where it came from."""

    name: str
    label: str
    data: bytes
    split: str | None = None
    """train, val or test where the source prescribes it."""
    licence: str | None = None
    group: str | None = None
    """What must not straddle splits: photographs of one owner look alike."""
    owner: str | None = None
    title: str | None = None
    url: str | None = None
    page_url: str | None = None
    sha256: str | None = None
    """Of the data, where somebody has just made sure of it."""

    def row(self) -> dict[str, object]:
        """As a row of a raw shard; the id is the sha256 of the bytes."""
        row = dict(vars(self))
        data, known = row.pop("data"), row.pop("sha256")
        return {"id": known or hashlib.sha256(data).hexdigest()} | row | {"bytes": data}


class SkipReason(StrEnum):
    """Why something that a source lists was left out; a closed list."""

    # Of an address.
    BAD_ADDRESS = "bad_address"  # not http or https, or no address at all
    PRIVATE_ADDRESS = "private_address"  # inside somebody's network
    UNREACHABLE = "unreachable"  # no whole answer in all attempts
    GONE = "gone"  # 404, 410, or the picture that Flickr shows in its place
    FORBIDDEN = "forbidden"  # 401, 403, 451
    REFUSED = "refused"  # any other status
    ROBOTS = "robots"  # its X-Robots-Tag wants no machine learning
    TOO_LARGE = "too_large"  # past acquire.max_file_megabytes
    NOT_AN_IMAGE = "not_an_image"  # a web page, or nothing
    CHANGED = "changed"  # other bytes than those that were pinned
    # Of what a search found.
    TWO_CLASSES = "two_classes"  # it answers the searches of two classes
    REPEATED = "repeated"  # the same bytes as another photograph of the set
    # Of a member of an archive or a folder.
    OUTSIDE_CLASS_FOLDERS = "outside_class_folders"
    UNSAFE_NAME = "unsafe_name"  # absolute, or leads out of the archive
    NOT_A_FILE = "not_a_file"  # a link or a device
    ENCRYPTED = "encrypted"
    UNREADABLE = "unreadable"  # a folder that may not be looked into


@dataclass(frozen=True)
class SkippedItem:
    """Something that the source lists and that is not among the raw images."""

    name: str
    reason: SkipReason
    label: str | None = None
    url: str | None = None

    def row(self) -> tuple[str, ...]:
        """As a row of skipped.csv."""
        return (self.name, self.label or "", self.url or "", self.reason.value)


SKIPPED_COLUMNS = ("name", "label", "url", "reason")
