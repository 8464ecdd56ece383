"""From the paths inside a folder or archive to labels and prescribed splits.

Class folders stand at the top, or below split folders (train/cat/1.jpg), and a single folder that
wraps everything is looked through.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.core.errors import PipelineError


@dataclass(frozen=True)
class FolderLabel:
    label: str
    split: str | None


def label_paths(names: Iterable[str], splits: Mapping[str, str]) -> dict[str, FolderLabel]:
    """Label and split of every name that lies in a class folder; other names are left out.

    Args:
        names: Relative paths with forward slashes.
        splits: Which folder above the class folders is which split; case does not matter.

    Raises:
        PipelineError: there are no class folders, or some of the folders look like splits.
    """
    splits = {folder.lower(): split for folder, split in splits.items()}
    parts = {name: PurePosixPath(name).parts for name in names if not is_hidden(name)}
    depth = _wrapping_depth(list(parts.values()), splits)
    below = {name: path[depth:] for name, path in parts.items()}
    prescribed = _are_splits({path[0] for path in below.values() if len(path) > 1}, splits)
    found = {}
    for name, path in below.items():
        split = splits[path[0].lower()] if prescribed and len(path) > 1 else None
        inside = path[1:] if prescribed else path
        if len(inside) > 1:
            found[name] = FolderLabel(inside[0], split)
    if not found:
        raise PipelineError(
            "no class folders: expected <class>/<image>, or train/<class>/<image> and "
            f"test/<class>/<image>; found {', '.join(sorted(parts)[:3]) or 'no files'}"
        )
    return found


def is_hidden(name: str) -> bool:
    """Whether a path is an operating system's bookkeeping (.DS_Store, __MACOSX/...)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _wrapping_depth(paths: list[tuple[str, ...]], splits: Mapping[str, str]) -> int:
    """How many folders wrap everything: each is alone at its level and holds further folders."""
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
    named = sorted(folder for folder in folders if folder.lower() in splits)
    if named and (others := sorted(folders - set(named))):
        raise PipelineError(
            f"the folders {', '.join(named)} look like splits but stand beside {others[0]!r}: say "
            "under [splits] in dataset.toml which folder is which split, or `splits = {}` if all "
            "of them are classes"
        )
    return bool(named)
