"""Derive labels and prescribed splits from the paths inside a folder or archive.

Class folders are at the top, or below split folders (train/cat/1.jpg), or above them
(cat/train/1.jpg). Folders that wrap all of them are ignored, and folders without images.
"""

import heapq
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.layouts.file_names import is_image_name

# Names, in lower case, of files and folders that macOS, Windows, the disks of Synology and QNAP,
# Linux and Python leave.
LITTER = frozenset(
    {
        "__macosx",
        "icon\r",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "@__thumb",
        "lost+found",
        "__pycache__",
    }
)
HIDDEN = re.compile(rf"(^|/)(\.|({'|'.join(map(re.escape, sorted(LITTER)))})(/|\Z))", re.IGNORECASE)


@dataclass(frozen=True)
class FolderLabel:
    label: str
    split: str | None
    inside: tuple[str, ...] = ()
    """Folders below the class folder that lead to the files."""


class FolderLabels:
    """Labels and splits by folder: there are far fewer folders than files."""

    def __init__(self, labels: Mapping[str, FolderLabel]) -> None:
        self._labels = labels

    def folders(self) -> Mapping[str, FolderLabel]:
        """The label of each folder."""
        return self._labels

    def find(self, name: str) -> FolderLabel | None:
        """The label and split of a file; None outside the class folders."""
        return None if is_hidden(name) else self._labels.get(_folder(name))

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return {label.label for label in self._labels.values()}


def label_folders(names: Callable[[], Iterator[str]], splits: Mapping[str, str]) -> FolderLabels:
    """Find label and split of the folders that files are in.

    Args:
        names: Gives the relative paths of all files, with forward slashes.
        splits: Folder above the class folders -> split; case and Unicode form do not matter.

    Raises:
        PipelineError: there are no class folders, or only some folders are named like splits.
    """
    splits = {to_nfc(folder).lower(): split for folder, split in splits.items()}
    folders = {_folder(name) for name in names() if is_image_name(name) and not is_hidden(name)}
    parts = {folder: PurePosixPath(to_nfc(folder)).parts for folder in folders}
    class_at, split_at = _find_levels(list(parts.values()), splits)
    labels = {}
    for folder, path in parts.items():
        if len(path) > class_at:
            split = None if split_at is None else splits[path[split_at].lower()]
            spelt = PurePosixPath(folder).parts[class_at]  # as the source spells it
            labels[folder] = FolderLabel(spelt, split, path[class_at + 1 :])
    if not labels:
        examples = heapq.nsmallest(3, (name for name in names() if not is_hidden(name)))
        raise PipelineError(
            "no class folders: expected <class>/<image>, or train/<class>/<image> and "
            f"test/<class>/<image>, but there are {', '.join(examples) or 'no files'}"
        )
    return FolderLabels(labels)


def _folder(name: str) -> str:
    return name.rstrip("/").rpartition("/")[0]


def is_hidden(name: str) -> bool:
    """Whether the path is hidden, or one that a system or program leaves everywhere.

    Such as .DS_Store, ._photo.jpg, __MACOSX/..., .ipynb_checkpoints/..., Thumbs.db, desktop.ini.
    """
    if not HIDDEN.search(name):  # nearly all
        return False
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part.lower() in LITTER for part in parts)


def _find_levels(
    folders: list[tuple[str, ...]], splits: Mapping[str, str]
) -> tuple[int, int | None]:
    """The level of the class folders, and that of the split folders, if there are any."""
    depth = _wrapping_depth(folders, splits)
    if _are_splits({path[depth] for path in folders if len(path) > depth}, splits):
        below = [path[depth + 1 :] for path in folders]
        return depth + 1 + _wrapping_depth(below, splits), depth
    has_splits_below = all(
        len(path) > depth + 1 and path[depth + 1].lower() in splits for path in folders
    )
    return depth, depth + 1 if folders and has_splits_below else None


def _wrapping_depth(folders: list[tuple[str, ...]], splits: Mapping[str, str]) -> int:
    """Count the folders around everything: alone at their level, and with folders below."""
    depth = 0
    while True:
        names = {folder[depth] for folder in folders if len(folder) > depth}
        nested = any(len(folder) > depth + 1 for folder in folders)
        if len(names) != 1 or not nested or _are_splits(names, splits):
            return depth
        (only,) = names
        folders = [folder for folder in folders if len(folder) > depth and folder[depth] == only]
        depth += 1


def _are_splits(folders: set[str], splits: Mapping[str, str]) -> bool:
    split_folders = sorted(folder for folder in folders if folder.lower() in splits)
    if split_folders and (others := sorted(folders - set(split_folders))):
        raise PipelineError(
            f"the folders {', '.join(split_folders)} look like splits but are beside "
            f"{others[0]!r}: set [splits] in dataset.toml to the folders that are splits, or "
            "`splits = {}` if all of them are classes"
        )
    return bool(split_folders)
