"""Labels in files beside the images, as in WebDataset's tars: 0001.jpg with 0001.cls.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format": files with the same path
up to the first dot of the name belong together.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.columns import Column
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.file_names import SIDECAR_SUFFIXES, is_image_name
from pipeline.stages.acquire.layouts.labels import NO_FILES, FileFacts
from pipeline.stages.acquire.layouts.table_columns import LABELS, find_column
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, RowTable

ORDER = (".cls", ".json", ".txt")
MIN_SHARE = 0.9  # of the images that have such a file
MAX_BYTES = 65_536
KEYS = pa.schema({"key": pa.string(), "position": pa.int32()})
LABELLED = pa.schema({"key": pa.string(), "label": pa.string()})
UNLABELLED, NO_IMAGE = -1, -2


class SidecarLabels:
    """Labels of images in files of the same name."""

    notes: tuple[str, ...] = ()
    missing: Column = NO_FILES

    def __init__(
        self, suffix: str, codes: columns.Codes, names: list[str], splits: Mapping[str, str]
    ):
        self.origin = f"the {suffix} file beside each image"
        self._codes = codes
        self._names = names
        self._splits = {to_nfc(text).lower(): split for text, split in splits.items()}

    def classes(self) -> set[str]:
        """All labels."""
        return {self._names[code] for code in np.unique(self._codes).tolist() if code >= 0}

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out."""
        for path, code in zip(files.paths(), self._codes.tolist(), strict=True):
            if code == NO_IMAGE:
                yield None if _suffix(path) in SIDECAR_SUFFIXES else SkipReason.UNLABELLED
            elif code == UNLABELLED:
                yield SkipReason.UNLABELLED
            else:
                folders = map(to_nfc, PurePosixPath(path).parts[:-1])
                split = next(
                    filter(None, (self._splits.get(name.lower()) for name in folders)), None
                )
                yield FileFacts(self._names[code], split)


def find_sidecars(files: FileTable, dataset: ExternalDataset, where: str) -> SidecarLabels | None:
    """The labels in files beside the images; None where few images have such a file.

    Raises:
        PipelineError: such a file cannot be read, or has no label.
    """
    images, sidecars = RowTable(KEYS), {suffix: RowTable(KEYS) for suffix in ORDER}
    for position, name in enumerate(files.names()):
        if is_hidden(name):
            continue
        if is_image_name(name):
            images.append(_key(name), position)
        elif (suffix := _suffix(name)) in sidecars:
            sidecars[suffix].append(_key(name), position)
    keys = images.table()
    for suffix, table in sidecars.items():
        beside = columns.positions(keys.column("key"), table.table().column("key"))
        if len(beside) and (beside >= 0).mean() >= MIN_SHARE:
            return _read_labels(suffix, keys, files, dataset, where)
    return None


def _read_labels(
    suffix: str, images: pa.Table, files: FileTable, dataset: ExternalDataset, where: str
) -> SidecarLabels | None:
    rows = RowTable(LABELLED)
    for file in files:
        if _suffix(file.name) == suffix and not is_hidden(file.name):
            if file.size > MAX_BYTES:
                raise PipelineError(
                    f"{where}: {file.name} has {file.size} bytes, too many for a label"
                )
            rows.append(_key(file.name), _parse(file.name, file.read(), suffix, dataset, where))
    labels = rows.table()
    codes, distinct = columns.encode(labels.column("label"))
    if suffix == ".txt" and len(distinct) > max(2, len(labels) // 2):
        return None  # captions
    matches = columns.positions(images.column("key"), labels.column("key"))
    image_codes = np.where(matches >= 0, codes[np.maximum(matches, 0)], UNLABELLED)
    all_codes = np.full(len(files), NO_IMAGE, np.int32)
    all_codes[images.column("position").to_numpy()] = image_codes
    return SidecarLabels(suffix, all_codes, distinct.to_pylist(), dataset.splits)


def _parse(name: str, data: bytes, suffix: str, dataset: ExternalDataset, where: str) -> str:
    try:
        text = data.decode("utf-8-sig").strip()
        label: Any = text
        if suffix == ".json":
            record = json.loads(text)
            column = dataset.label_column or find_column(list(record), LABELS)
            label = record[column] if column else None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise PipelineError(f"{where}: {name} has no label ({one_line(error)})") from error
    if isinstance(label, bool) or not isinstance(label, str | int) or label == "" or "\0" in text:
        raise PipelineError(
            f"{where}: {name} has no label: a text or a number"
            f"{', whose key label_column names' if suffix == '.json' else ''}"
        )
    return str(label)


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
