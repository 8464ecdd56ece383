"""Labels by class folders, and copies of class folders among them, which are left out."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.columns import Column
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.layouts.labels import (
    NO_FILES,
    AmbiguousLayoutError,
    FileFacts,
    Reading,
)
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import (
    FolderLabel,
    is_hidden,
    label_folders,
)
from pipeline.stages.acquire.sources.listing import FileTable, RowTable

KEYS = pa.schema({"key": pa.string()})


@dataclass(frozen=True)
class ClassFolderLabels:
    """Labels by class folders."""

    folders: Mapping[str, FolderLabel]
    """Folder -> label."""
    copies: frozenset[str] = frozenset()
    """Folders that are copies of others."""
    notes: tuple[str, ...] = ()
    origin: str = "the folders of the files"
    missing: ClassVar[Column] = NO_FILES

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return {label.label for folder, label in self.folders.items() if folder not in self.copies}

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason]:
        """What is known of each file, in their order, or why it is left out."""
        facts: dict[str, FileFacts | SkipReason] = {
            folder: SkipReason.COPIED_FOLDER
            if folder in self.copies
            else FileFacts(label.label, label.split)
            for folder, label in self.folders.items()
        }
        for name in files.paths():
            folder = name.rpartition("/")[0]
            is_outside = is_hidden(name) or folder not in facts
            yield SkipReason.OUTSIDE_CLASS_FOLDERS if is_outside else facts[folder]


def read_folders(files: FileTable, splits: Mapping[str, str], where: str) -> ClassFolderLabels:
    """Label files by the class folders that they are in.

    Raises:
        PipelineError: there are none, or only some folders are named like splits.
        AmbiguousLayoutError: a class folder has folders named like other classes, with files that
            those lack.
    """
    folders = label_folders(files.paths, splits).folders()
    copies = _find_copies(folders)
    if not copies:
        return ClassFolderLabels(folders)
    if not _are_copies(copies, folders, files):
        raise _ambiguous(copies, folders, where)
    names = sorted({folders[folder].label for folder in copies})
    note = (
        f"{', '.join(names)} has copies of the class folders "
        f"{', '.join(sorted(set(copies.values())))}, by the names and sizes of its files: they are "
        "left out"
    )
    return ClassFolderLabels(folders, frozenset(copies), (note,))


def _find_copies(folders: Mapping[str, FolderLabel]) -> dict[str, str]:
    """Folders that repeat a class: .../cleaned/Cat beside .../Cat -> Cat."""
    roots = _nested_roots(folders.values())
    copies = {}
    for folder, label in folders.items():
        siblings = roots.get(_key(label.label), {})
        if original := next(
            (siblings[key] for key in map(_key, label.inside) if key in siblings), ""
        ):
            copies[folder] = original
    return copies


def _nested_roots(labels: Collection[FolderLabel]) -> dict[str, dict[str, str]]:
    """Class folders all of whose files are in folders named like other classes.

    Returns:
        Key of such a folder -> key of each other class -> its name.
    """
    inside: dict[str, list[tuple[str, ...]]] = {}
    spelling = {_key(label.label): label.label for label in labels}
    for label in labels:
        inside.setdefault(_key(label.label), []).append(tuple(map(_key, label.inside)))
    roots = {}
    for root, paths in inside.items():
        siblings = spelling.keys() - {root}
        repeated = {part for path in paths for part in path if part in siblings}
        is_root = all(siblings & set(path) for path in paths)
        if is_root and (len(repeated) >= 2 or repeated == siblings):
            roots[root] = {key: spelling[key] for key in siblings}
    return roots


def _are_copies(
    copies: Mapping[str, str], folders: Mapping[str, FolderLabel], files: FileTable
) -> bool:
    """Whether the originals have each file of the copies, by its name and size."""
    originals, repeated = RowTable(KEYS), RowTable(KEYS)
    for path, size in zip(files.paths(), columns.iterate(files.column("size")), strict=True):
        folder, _, name = path.rpartition("/")
        if is_hidden(path) or folder not in folders:
            continue
        table = repeated if folder in copies else originals
        table.append(f"{_key(copies.get(folder, folders[folder].label))}/{name}/{size}")
    among = originals.table().column("key")
    return bool(pc.all(pc.is_in(repeated.table().column("key"), value_set=among)).as_py())


def _ambiguous(
    copies: Mapping[str, str], folders: Mapping[str, FolderLabel], where: str
) -> AmbiguousLayoutError:
    folder = min(copies)
    label = folders[folder]
    parts = PurePosixPath(folder).parts
    root = len(parts) - len(label.inside) - 1
    above = [*parts[: root - 1], "{split}"] if label.split and root else parts[:root]
    depth = next(
        level for level, part in enumerate(label.inside) if _key(part) == _key(copies[folder])
    )
    outer = "/".join(["", *above, "{label}", "*"])
    inner = "/".join([*parts[root : root + 1 + depth], "{label}", "*"])
    return AmbiguousLayoutError(
        where,
        f"{label.label} beside the class folders has folders of the same names, with other files",
        (
            Reading("pattern", outer, f"without {label.label}"),
            Reading("pattern", inner, f"{label.label} alone"),
        ),
    )


def _key(name: str) -> str:
    return to_nfc(name).lower()
