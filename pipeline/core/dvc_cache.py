"""The last output of a stage, in DVC's cache, as dvc.lock records it.

DVC deletes a stage's outputs before it runs, and its option `persist`, which keeps them, copies
every hard-linked byte of them and turns the run cache off (docs/benchmarks.md).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core import dvc_lock, file_digests, project
from pipeline.core.dvc_lock import Lock

DVC_FOLDER = ".dvc"
LINKS = {"hardlink", "symlink"}  # types of links to a cache whose objects are never written to


@dataclass(frozen=True)
class LastOutput:
    """The files of a folder that a stage wrote in its last run."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Path in the folder -> the object in DVC's cache; only those that are there."""
    linked: bool = False
    """Whether DVC links its cache into the workspace, so that others may too."""

    def place(self, name: str, target: Path) -> None:
        """Put a file at `target`: a hard link, so that DVC knows its digest, or else a copy."""
        if self.linked:
            try:
                os.link(self.files[name], target)
                return
            except OSError:  # another file system, or one without links
                pass
        shutil.copyfile(self.files[name], target)


def find_last_output(stage: str, folder: Path, lock: Lock | None = None) -> LastOutput:
    """The last output `folder` of `stage`; empty where dvc.lock or the cache has none.

    What is in the cache may be damaged: only the names of its objects say what they should be.

    Args:
        lock: Of another state than the working tree's.
    """
    present = dvc_lock.read() if lock is None else lock
    listing = dvc_lock.outs(present, stage).get(folder.as_posix(), "")
    if not listing.endswith(".dir"):
        return LastOutput()
    cache, linked = _read_config()
    objects = cache / "files" / "md5"
    files = {name: _object(objects, md5) for name, md5 in _files(_object(objects, listing)).items()}
    return LastOutput({name: path for name, path in files.items() if path.is_file()}, linked)


def find_object(md5: str) -> Path:
    """Where DVC's cache has, or would have, the file with this digest."""
    cache, _ = _read_config()
    return _object(cache / "files" / "md5", md5)


def _read_config() -> tuple[Path, bool]:
    """DVC's cache folder, and whether it is linked into the workspace."""
    from dvc.config import Config  # takes 0.1 s; a first run does without

    # Not always that of project.root(): `dvc exp run --temp` works in a copy with a shared cache.
    folders = [Path.cwd(), *Path.cwd().parents, project.root()]
    folder = next(path for path in folders if (path / DVC_FOLDER).is_dir() or path == folders[-1])
    section = Config(str(folder / DVC_FOLDER))["cache"]
    return Path(section.get("dir") or folder / DVC_FOLDER / "cache"), LINKS.issuperset(
        section.get("type") or ["copy"]
    )


def _files(listing: Path) -> dict[str, str]:
    """The md5 of each file right in a folder, by name; empty for a missing or damaged listing."""
    try:
        files = read_listing(listing)
    except (OSError, ValueError):
        return {}
    return {path: md5 for path, md5 in files.items() if PurePosixPath(path).name == path}


def read_listing(path: Path) -> dict[str, str]:
    """Read the object of a folder: the md5 of each of its files, by its path in the folder.

    Raises:
        OSError: there is no such object, or it may not be read.
        ValueError: it is not such a listing, or names a file outside the folder.
    """
    try:
        entries = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path} is not a listing") from error
    if not isinstance(entries, list) or not all(map(_is_listed_file, entries)):
        raise ValueError(f"{path} is not a listing")
    return {entry["relpath"]: entry["md5"] for entry in entries}


def _is_listed_file(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    path, md5 = entry.get("relpath"), entry.get("md5")
    return (
        isinstance(path, str)
        and _is_inside(path)
        and isinstance(md5, str)
        and file_digests.is_md5(md5)
    )


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _object(objects: Path, digest: str) -> Path:
    return objects / digest[:2] / digest[2:]
