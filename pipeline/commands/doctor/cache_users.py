"""Who needs an object of DVC's cache: outs of this project, or another project."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.commands.doctor.cache_objects import LISTING, list_objects
from pipeline.core.dvc_cache import read_listing
from pipeline.core.dvc_lock import LOCK
from pipeline.core.git import try_git


@dataclass(frozen=True)
class OutFile:
    """An out, or a file in an out that is a folder."""

    path: Path
    """Relative to the project."""
    name: str
    """Of the object that holds it, according to dvc.lock."""
    object: Path
    """Where the cache has that object."""


def list_out_files(repo: Any) -> Iterator[OutFile]:
    """The outs in dvc.lock; after a folder come its files, if its listing can be read."""
    root = Path(repo.root_dir)
    for out in repo.index.outs:
        if out.is_in_repo and out.hash_info and out.hash_name == "md5":
            path, name = Path(out.fs_path).relative_to(root), out.hash_info.value
            yield OutFile(path, name, _locate(repo, name))
            for relative, md5 in _members(_locate(repo, name)).items():
                yield OutFile(path / relative, md5, _locate(repo, md5))


def _locate(repo: Any, name: str) -> Path:
    return Path(repo.cache.local.oid_to_path(name))


def _members(item: Path) -> dict[str, str]:
    """The md5 of each file of a folder; none for the object of a file, or a damaged listing."""
    try:
        return read_listing(item) if item.name.endswith(LISTING) else {}
    except (OSError, ValueError):
        return {}


def is_shared(repo: Any) -> bool:
    """Whether the cache is outside the project's folder, so that it may serve other projects."""
    cache, root = Path(repo.cache.local.path), Path(repo.root_dir)
    return not cache.resolve().is_relative_to(root.resolve())


def is_foreign(repo: Any, name: str) -> bool:
    """Whether no dvc.lock of this project has had an object, nor a folder with it."""
    items = list_objects(Path(repo.cache.local.path))
    folders = (item.name for item in items if name in _members(item.path).values())
    return not any(map(_is_in_history, chain([name], folders)))


def _is_in_history(name: str) -> bool:
    """Whether the present dvc.lock, or that of any branch, tag or experiment, has the digest."""
    if LOCK.exists() and name in LOCK.read_text("utf-8", "replace"):
        return True
    return bool(try_git("log", "--all", "-1", "--format=%H", f"-S{name}", "--", str(LOCK)))
