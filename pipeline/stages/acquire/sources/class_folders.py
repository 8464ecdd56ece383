"""Derive labels and prescribed splits from the paths inside a folder or archive.

Class folders are at the top, or below split folders (train/cat/1.jpg), or above them
(cat/train/1.jpg). Folders that wrap all of them are ignored, and folders without images.
"""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.sources.split_folders import find_splits, format_splits

# Names, in lower case, of files and folders that macOS, Windows, the disks of Synology and QNAP,
# Linux, Python and version control leave.
LITTER = frozenset(
    {
        ".appledouble",
        ".directory",
        ".ds_store",
        ".fseventsd",
        ".git",
        ".gitattributes",
        ".gitignore",
        ".ipynb_checkpoints",
        ".localized",
        ".nomedia",
        ".picasa.ini",
        ".spotlight-v100",
        ".svn",
        ".trashes",
        "__macosx",
        "icon\r",
        "thumbs.db",
        "thumbs.db:encryptable",
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
MAX_EXAMPLES = 3  # of folders in a message
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


def label_folders(
    names: Callable[[], Iterator[str]],
    splits: Mapping[str, str],
    folders: Collection[str] | None = None,
) -> FolderLabels:
    """Find label and split of the folders that files are in.

    Args:
        names: Gives the relative paths of all files, with forward slashes.
        splits: Folder above the class folders -> split; case and Unicode form do not matter.
        folders: Those to label; by default, all with images.

    Raises:
        PipelineError: there are no class folders, or only some folders are named like splits.
    """
    splits = {to_nfc(folder).lower(): split for folder, split in splits.items()}
    if folders is None:
        folders = set(count_images(names()))
    parts = {folder: PurePosixPath(to_nfc(folder)).parts for folder in folders}
    class_at, split_at, split_of = _find_levels(list(parts.values()), splits)
    labels = {}
    for folder, path in parts.items():
        if len(path) > class_at and (split_at is None or path[split_at] in split_of):
            split = None if split_at is None else split_of[path[split_at]]
            spelt = PurePosixPath(folder).parts[class_at]  # as the source spells it
            labels[folder] = FolderLabel(spelt, split, path[class_at + 1 :])
    if not labels:
        examples = heapq.nsmallest(3, (name for name in names() if not is_hidden(name)))
        raise PipelineError(
            "no class folders: expected <class>/<image>, or train/<class>/<image> and "
            f"test/<class>/<image>, but there are {', '.join(examples) or 'no files'}"
        )
    return FolderLabels(labels)


def count_images(names: Iterable[str]) -> Counter[str]:
    """Files that may be images, by folder."""
    return Counter(_folder(name) for name in names if is_image_name(name) and not is_hidden(name))


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


def is_junk(name: str) -> bool:
    """Whether the path is one that a system or program leaves everywhere, and no photograph.

    A hidden file of any other name may be somebody's photograph.
    """
    if not HIDDEN.search(name):  # nearly all
        return False
    parts = PurePosixPath(name).parts
    return any(part.startswith("._") or part.lower() in LITTER for part in parts)


def _find_levels(
    folders: list[tuple[str, ...]], splits: Mapping[str, str]
) -> tuple[int, int | None, dict[str, str]]:
    """The level of the class folders; that of the split folders, if there are any; their splits."""
    depth = _wrapping_depth(folders, splits)
    if split_of := _find_split_folders(folders, depth, splits):
        inside = [path[depth:] for path in folders if set(path[depth : depth + 1]) & set(split_of)]
        # test_set/test_set/cat, as some archives are packed
        is_repeated = all(path[0].lower() == path[1].lower() for path in inside if len(path) > 1)
        start = 2 if is_repeated else 1
        return (
            depth + start + _wrapping_depth([path[start:] for path in inside], splits),
            depth,
            split_of,
        )
    below = {path[depth + 1] if len(path) > depth + 1 else "" for path in folders}
    split_of = find_splits(below, splits)
    return (depth, depth + 1, split_of) if below and below == split_of.keys() else (depth, None, {})


def _wrapping_depth(folders: list[tuple[str, ...]], splits: Mapping[str, str]) -> int:
    """Count the folders around everything: alone at their level, and with folders below."""
    depth = 0
    while True:
        names = {folder[depth] for folder in folders if len(folder) > depth}
        nested = any(len(folder) > depth + 1 for folder in folders)
        if len(names) != 1 or not nested or find_splits(names, splits):
            return depth
        (only,) = names
        folders = [folder for folder in folders if len(folder) > depth and folder[depth] == only]
        depth += 1


def _find_split_folders(
    folders: list[tuple[str, ...]], depth: int, splits: Mapping[str, str]
) -> dict[str, str]:
    """The folders of a level that are named after splits; images beside those have no labels.

    Raises:
        PipelineError: other folders are beside them, which may have classes.
    """
    names = {path[depth] for path in folders if len(path) > depth}
    split_of = find_splits(names, splits)
    others = names - split_of.keys()
    if not any(name.lower() in splits for name in names):
        # seg_pred/seg_pred/1.jpg beside seg_train/seg_train/sea/1.jpg
        others &= {path[depth] for path in folders if len(set(path[depth:])) > 1}
    if split_of and others:
        raise _mixed_error(split_of, others, splits)
    return split_of


def _mixed_error(
    split_of: Mapping[str, str], others: Collection[str], splits: Mapping[str, str]
) -> PipelineError:
    """Say how to tell folders that are splits from folders that are classes."""
    example = format_splits([*sorted(split_of), *sorted(others)[:MAX_EXAMPLES]], splits)
    return PipelineError(
        f"the folders {', '.join(sorted(split_of))} look like splits but are beside "
        f"{min(others)!r}: write pattern = '{{label}}/*' in dataset.toml if all of them are "
        f"classes, or, if all of them are splits, which, such as {example}"
    )
