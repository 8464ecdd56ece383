"""The last output of a stage, in DVC's cache, as dvc.lock records it.

DVC deletes a stage's outputs before it runs, and its option `persist`, which keeps them, copies
every hard-linked byte of them and turns the run cache off (docs/benchmarks.md).
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core import dvc_lock, project

DVC_FOLDER = ".dvc"
MD5 = re.compile("[0-9a-f]{32}")
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


def find_last_output(stage: str, folder: Path) -> LastOutput:
    """The last output `folder` of `stage`; empty where dvc.lock or the cache has none.

    What is in the cache may be damaged: only the names of its objects say what they should be.
    """
    listing = dvc_lock.outs(dvc_lock.read(), stage).get(folder.as_posix(), "")
    if not listing.endswith(".dir"):
        return LastOutput()
    cache, linked = _read_config()
    objects = cache / "files" / "md5"
    files = {name: _object(objects, md5) for name, md5 in _read_listing(objects, listing).items()}
    return LastOutput({name: path for name, path in files.items() if path.is_file()}, linked)


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


def _read_listing(objects: Path, digest: str) -> dict[str, str]:
    """md5 by path of the files of a folder."""
    try:
        entries = json.loads(_object(objects, digest).read_bytes())
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged
        return {}
    return {
        name: md5
        for name, md5 in files.items()
        if PurePosixPath(name).name == name and MD5.fullmatch(md5)
    }


def _object(objects: Path, digest: str) -> Path:
    return objects / digest[:2] / digest[2:]
