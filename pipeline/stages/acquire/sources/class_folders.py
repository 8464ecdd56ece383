"""Derive labels and prescribed splits from the paths inside a folder or archive.

Class folders are at the top, or below split folders (train/cat/1.jpg). Folders that wrap all of
them are ignored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc


@dataclass(frozen=True)
class FolderLabel:
    label: str
    split: str | None


def label_paths(names: Iterable[str], splits: Mapping[str, str]) -> dict[str, FolderLabel]:
    """Return label and split of every path inside a class folder, leaving out the other paths.

    Args:
        names: Relative paths with forward slashes.
        splits: Folder above the class folders -> split; case and Unicode form do not matter.

    Raises:
        PipelineError: there are no class folders, or only some folders are named like splits.
    """
    splits = {to_nfc(folder).lower(): split for folder, split in splits.items()}
    parts = {name: PurePosixPath(to_nfc(name)).parts for name in names if not is_hidden(name)}
    depth = _wrapping_depth(list(parts.values()), splits)
    below = {name: path[depth:] for name, path in parts.items()}
    prescribed = _are_splits({path[0] for path in below.values() if len(path) > 1}, splits)
    labels = {}
    for name, path in below.items():
        split = splits[path[0].lower()] if prescribed and len(path) > 1 else None
        inside = path[1:] if prescribed else path
        if len(inside) > 1:
            folder = PurePosixPath(name).parts[-len(inside)]  # as the source spells it
            labels[name] = FolderLabel(folder, split)
    if not labels:
        raise PipelineError(
            "no class folders: expected <class>/<image>, or train/<class>/<image> and "
            f"test/<class>/<image>, but there are {', '.join(sorted(parts)[:3]) or 'no files'}"
        )
    return labels


def is_hidden(name: str) -> bool:
    """Whether the operating system hides the path (.DS_Store, __MACOSX/...)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _wrapping_depth(paths: list[tuple[str, ...]], splits: Mapping[str, str]) -> int:
    """Count the folders around everything: alone at their level, and with folders below."""
    depth = 0
    while True:
        folders = {path[depth] for path in paths if len(path) > depth + 1}
        nested = any(len(path) > depth + 2 for path in paths)
        if len(folders) != 1 or not nested or _are_splits(folders, splits):
            return depth
        (only,) = folders
        paths = [path for path in paths if len(path) > depth + 1 and path[depth] == only]
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
