"""Labels in files beside the images, as in WebDataset's tars: 0001.jpg with 0001.cls.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format": files with the same path
up to the first dot of the name belong together.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Column
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.core.unicode import to_nfc
from pipeline.datasets.dataset_toml import ExternalDataset
from pipeline.stages.acquire.layouts.captions import are_captions
from pipeline.stages.acquire.layouts.file_names import SIDECAR_SUFFIXES, is_image_name
from pipeline.stages.acquire.layouts.labels import (
    NO_FILES,
    AmbiguousLayoutError,
    FileFacts,
    have_numbers_only,
)
from pipeline.stages.acquire.layouts.table_columns import (
    LABELS,
    are_numbers,
    are_one_to_one,
    find_columns,
    read_column,
)
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, RowTable

ORDER = (".cls", ".json", ".txt")
MIN_SHARE = 0.9  # of the images that have such a file
MAX_BYTES = 65_536
KEYS = pa.schema({"key": pa.string(), "position": pa.int32()})
LABELLED = pa.schema({"key": pa.string(), "label": pa.string(), "other": pa.string()})
# YOLO's, a line each: a class and four or more numbers.
BOXES = re.compile(
    r"\d++(?: +-?[\d.]++(?:e[-+]?\d+)?){4,}(?:\s+\d++(?: +-?[\d.]++(?:e[-+]?\d+)?){4,})*"
)
UNLABELLED, NO_IMAGE = -1, -2


class SidecarLabels:
    """Labels of images in files of the same name."""

    notes: tuple[str, ...] = ()
    missing: Column = NO_FILES

    def __init__(
        self, suffix: str, codes: columns.Codes, names: list[str], splits: Mapping[str, str]
    ):
        self.suffix = suffix
        self.origin = f"the {suffix} file beside each image"
        self._codes = codes
        self._names = names
        self._splits = {to_nfc(text).lower(): split for text, split in splits.items()}

    def classes(self) -> set[str]:
        """All labels."""
        return {self._names[code] for code in np.unique(self._codes).tolist() if code >= 0}

    def are_numbers(self) -> bool:
        """Whether all labels are numbers."""
        return have_numbers_only(self.classes())

    def is_numbers_of(self, other: "SidecarLabels") -> bool:
        """Whether these labels are numbers of the same classes for which others have texts."""
        pairs = len(set(zip(self._codes.tolist(), other._codes.tolist(), strict=True)))
        is_same = pairs == len(np.unique(self._codes)) == len(np.unique(other._codes))
        return is_same and self.are_numbers() and not other.are_numbers()

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out."""
        for path, code in zip(files.paths(), self._codes.tolist(), strict=True):
            if code == NO_IMAGE:
                yield None if _suffix(path) in SIDECAR_SUFFIXES else _why_no_image(path)
            elif code == UNLABELLED:
                yield SkipReason.UNLABELLED
            else:
                folders = map(to_nfc, PurePosixPath(path).parts[:-1])
                split = next(
                    filter(None, (self._splits.get(name.lower()) for name in folders)), None
                )
                yield FileFacts(self._names[code], split)


@dataclass(frozen=True)
class SidecarSearch:
    """What looking for labels beside the images gave."""

    labels: SidecarLabels | None
    problems: tuple[str, ...] = ()
    """Why files beside the images have no labels, a clause each."""


def find_sidecars(files: FileTable, dataset: ExternalDataset, where: str) -> SidecarSearch:
    """Find labels in files beside the images, where most images have such a file.

    Of two kinds of files with the same classes, the one with texts is taken.

    Raises:
        PipelineError: some files have a label and others none, or one cannot be read.
        AmbiguousLayoutError: two keys of JSON files have different classes.
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
    problems: list[str] = []
    labels: list[SidecarLabels] = []
    for suffix, table in sidecars.items():
        beside = columns.positions(keys.column("key"), table.table().column("key"))
        if not len(beside) or (beside >= 0).mean() < MIN_SHARE:
            continue
        if _may_be_meant(suffix, dataset):
            of_suffix = _read_labels(suffix, keys, files, dataset, where, problems)
            labels += [of_suffix] if of_suffix else []
    texts = [other for other in labels[1:] if labels[0].is_numbers_of(other)]
    return SidecarSearch(next(iter([*texts, *labels]), None), tuple(problems))


def _may_be_meant(suffix: str, dataset: ExternalDataset) -> bool:
    """Whether dataset.toml names these files, or nothing that they lack."""
    if dataset.file_column or (dataset.label_column and suffix != ".json"):
        return False
    return dataset.table in (None, f"*{suffix}")


def _read_labels(
    suffix: str,
    images: pa.Table,
    files: FileTable,
    dataset: ExternalDataset,
    where: str,
    problems: list[str],
) -> SidecarLabels | None:
    """The labels in the files of one suffix; None, with a problem, where none has a label."""
    rows, parse = RowTable(LABELLED), _Parser(suffix, dataset.label_column)
    errors: list[str] = []
    for file in files:
        if _suffix(file.name) != suffix or is_hidden(file.name):
            continue
        try:
            if file.size > MAX_BYTES:
                raise PipelineError(f"{file.name} has {file.size} bytes, too many for a label")
            rows.append(_key(file.name), *parse(file.name, file.read()))
        except PipelineError as error:
            errors.append(str(error))
    labels = rows.table()
    cells = _choose_key(labels, parse.keys, where) if len(labels) else labels.column("label")
    codes, distinct = columns.encode(cells)
    is_caption = suffix == ".txt" and are_captions(len(distinct), len(labels))
    if not len(labels) or (is_caption and not dataset.table):
        problems += errors[:1]
        return None
    if errors:
        raise PipelineError(f"{where}: {errors[0]}")
    matches = columns.positions(images.column("key"), labels.column("key"))
    image_codes = np.where(matches >= 0, codes[np.maximum(matches, 0)], UNLABELLED)
    all_codes = np.full(len(files), NO_IMAGE, np.int32)
    all_codes[images.column("position").to_numpy()] = image_codes
    return SidecarLabels(suffix, all_codes, distinct.to_pylist(), dataset.splits)


def _choose_key(labels: pa.Table, keys: Sequence[str], where: str) -> pa.ChunkedArray:
    """The labels by the first key of JSON files, or by the second, as of two columns of a table."""
    first, second = labels.column("label"), labels.column("other")
    if len(keys) < 2 or pc.any(pc.equal(second, "")).as_py():
        return first
    if not are_one_to_one(first, second):
        raise AmbiguousLayoutError(
            where,
            "two keys of its .json files may have the classes",
            (read_column(keys[0], first), read_column(keys[1], second)),
        )
    return second if are_numbers(first) and not are_numbers(second) else first


class _Parser:
    """Reads labels: of JSON, by the keys with common names that the first file has."""

    def __init__(self, suffix: str, key: str | None) -> None:
        self._suffix = suffix
        self.keys = [key] if key else []

    def __call__(self, name: str, data: bytes) -> tuple[str, str]:
        """The label in a file, and that by another key, or "".

        Raises:
            PipelineError: there is none.
        """
        try:
            text = data.decode("utf-8-sig").strip()
            content = json.loads(text) if self._suffix == ".json" else text
        except (ValueError, RecursionError) as error:
            raise PipelineError(f"{name} has no label ({one_line(error)})") from error
        values = self._values_of(content) if self._suffix == ".json" else [content]
        labels = [_to_label(value) for value in values]
        if not labels or not labels[0] or "\0" in text:
            advice = ", whose key label_column names" if self._suffix == ".json" else ""
            raise PipelineError(f"{name} has no label: a text or a number{advice}")
        if self._suffix == ".txt" and BOXES.fullmatch(text):
            raise PipelineError(f"{name} has no label, but boxes")
        return labels[0], labels[1] if len(labels) > 1 else ""

    def _values_of(self, content: object) -> list[object]:
        """What a JSON file has by the keys."""
        if not isinstance(content, dict):
            return []
        self.keys = self.keys or find_columns(list(content), LABELS)[:2]
        return [content.get(key) for key in self.keys]


def _to_label(value: object) -> str:
    """A text or a whole number as a text; "" for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _why_no_image(path: str) -> SkipReason:
    return SkipReason.UNLABELLED if is_image_name(path) else SkipReason.OTHER_KIND


def _key(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
