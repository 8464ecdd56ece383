"""Derive labels and prescribed splits from the paths inside a folder or archive.

Class folders are at the top, or below split folders (train/cat/1.jpg). Folders that wrap all of
them are ignored.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc


@dataclass(frozen=True)
class FolderLabel:
    label: str
    split: str | None


class FolderLabels:
    """Labels and splits by folder: there are far fewer folders than files."""

    def __init__(self, labels: Mapping[str, FolderLabel]) -> None:
        self._labels = labels

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
    folders = {_folder(name) for name in names() if not is_hidden(name)}
    parts = {folder: PurePosixPath(to_nfc(folder)).parts for folder in folders}
    depth = _wrapping_depth(list(parts.values()), splits)
    below = {folder: path[depth:] for folder, path in parts.items()}
    prescribed = _are_splits({path[0] for path in below.values() if path}, splits)
    labels = {}
    for folder, path in below.items():
        split = splits[path[0].lower()] if prescribed and path else None
        inside = path[1:] if prescribed else path
        if inside:
            spelt = PurePosixPath(folder).parts[-len(inside)]  # as the source spells it
            labels[folder] = FolderLabel(spelt, split)
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
    """Whether the operating system hides the path (.DS_Store, __MACOSX/...)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


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
