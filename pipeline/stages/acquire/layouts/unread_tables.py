"""Files that may have the labels in a form that is not read, and what to do about them."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable

SPREADSHEETS = frozenset({".xlsx", ".xlsm", ".xls", ".ods", ".numbers"})
OTHERS = frozenset(
    {".json", ".mat", ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".arrow", ".feather"}
    | {".tfrecord", ".tfrecords", ".sqlite", ".db"}
)
MAX_BYTES = 500e6  # of JSON, in which COCO's keys are looked for
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
CSV = "a CSV file beside the images, with columns for file and label"


def describe_unread(files: FileTable) -> str | None:
    """What to do about the files that may have the labels; None if there are none."""
    for suffixes in (SPREADSHEETS, OTHERS):
        for file, path in zip(files, files.paths(), strict=True):
            if _suffix(path) in suffixes and not is_hidden(path):
                is_coco = _suffix(path) == ".json" and file.size <= MAX_BYTES
                return _advise(path, [file.read()] if is_coco else [])
    return None


def describe_unread_file(path: Path) -> str | None:
    """The same for a file that is given as the source."""
    is_json = _suffix(path.name) == ".json" and path.stat().st_size <= MAX_BYTES
    return _advise(str(path), [path.read_bytes()] if is_json else [])


def _advise(name: str, contents: Iterable[bytes] = ()) -> str | None:
    """What to do about a file by its name; None if it is none that may have labels.

    Args:
        contents: Of the file, if it is JSON.
    """
    if _suffix(name) in SPREADSHEETS:
        return f"{name} is a spreadsheet, which is not read: save it as {CSV}"
    if _suffix(name) not in OTHERS:
        return None
    if any(all(key in data for key in COCO_KEYS) for data in contents):
        return (
            f"{name} has the objects in each image with their boxes (COCO), but an image needs "
            f"one class: write {CSV}"
        )
    return f"{name} is not read as a table of labels: if it is one, write {CSV}"


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()
