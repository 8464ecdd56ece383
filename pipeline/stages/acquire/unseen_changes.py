"""Images whose changes DVC does not see: `dvc repro` would keep the results of earlier ones."""

import os
from pathlib import Path

from pipeline.core.terminal import warn


def warn_of_unseen_changes(path: Path, *deps: Path) -> None:
    """Warn if images are where DVC does not look.

    Args:
        path: The folder or file with the images.
        deps: The dependencies in dvc.yaml one of which should hold it.
    """
    path = Path(os.path.normpath(path.absolute()))
    unseen = [_find_unseen(path, dep.absolute()) for dep in deps]
    if all(unseen):
        warn(
            f"DVC does not see changes in {unseen[0]}, which is outside {deps[0]} or behind a link:"
            " after one, run `dvc repro --force acquire` before `dvc repro`"
        )


def _find_unseen(path: Path, dep: Path) -> Path | None:
    """The outermost folder or file at `path`, above or below it that DVC misses in `dep`."""
    if not path.is_relative_to(dep):
        return path
    for folder in reversed((path, *path.parents)):
        if folder != dep and folder.is_relative_to(dep) and _is_linked_folder(folder):
            return folder
    for directory, subfolders, _ in os.walk(path):  # as DVC does: it follows no links
        for name in sorted(subfolders):
            if _is_linked_folder(Path(directory, name)):
                return Path(directory, name)
    return None


def _is_linked_folder(path: Path) -> bool:
    return path.is_symlink() and path.is_dir()
