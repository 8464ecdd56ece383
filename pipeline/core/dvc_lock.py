"""dvc.lock: the deps, params and outs of each stage's last run."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core import file_digests
from pipeline.core.errors import PipelineError

LOCK = Path("dvc.lock")
DVCIGNORE = Path(".dvcignore")  # DVC runs stages in its folder

Lock = dict[str, dict[str, Any]]
"""The entry of each stage, in the file's order."""


def read(lock: Path = LOCK) -> Lock:
    """Read a lock file; empty where it is missing.

    Raises:
        PipelineError: the file is not YAML.
    """
    if not lock.exists():
        return {}
    try:
        return parse(lock.read_bytes(), str(lock), is_own=True)
    except PipelineError as error:
        raise PipelineError(f"{error}: `pipeline doctor` puts back the last good one") from error


def load(text: bytes, source: str = "dvc.lock", is_own: bool = False) -> object:
    """Load the text of a lock file, whatever it holds; error messages name `source`.

    Args:
        is_own: Whether it is the project's file, which DVC reads too. It is parsed in C, in a
            quarter of the time, and deep nesting, as in a hostile file, ends the process.
    """
    try:
        return YAML(typ="safe", pure=not is_own).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # bad dates, deep nesting
        raise PipelineError(f"{source} is not YAML: {error}".splitlines()[0]) from error


def parse(text: bytes, source: str = "dvc.lock", is_own: bool = False) -> Lock:
    """The stages in the text of a lock file; the arguments are those of `load`."""
    content = load(text, source, is_own)
    stages = content.get("stages") if isinstance(content, dict) else None
    return {
        name: stage
        for name, stage in (stages if isinstance(stages, dict) else {}).items()
        if isinstance(name, str) and isinstance(stage, dict)
    }


def outs(lock: Lock, stage: str) -> dict[str, str]:
    """DVC's digests of a stage's outs, by path."""
    return _digests(lock.get(stage, {}).get("outs"))


def deps(lock: Lock, stage: str) -> dict[str, str]:
    """DVC's digests of a stage's deps, by path."""
    return _digests(lock.get(stage, {}).get("deps"))


def _digests(entries: object) -> dict[str, str]:
    return {
        str(entry["path"]): str(entry["md5"])
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and {"path", "md5"} <= entry.keys()
    }


def params(lock: Lock, stage: str) -> dict[str, Any]:
    """The sections of params.yaml that a stage last ran with; empty where it never ran."""
    files = lock.get(stage, {}).get("params")
    sections = files.get("params.yaml") if isinstance(files, dict) else None
    return sections if isinstance(sections, dict) else {}


def ran_with(lock: Lock, stage: str, dep: str, file: Path) -> bool:
    """Whether `file` has the content that `dep` had when the stage last ran."""
    return deps(lock, stage).get(dep) == digest(file)


def digest(path: Path) -> str:
    """DVC's digest of a file (its md5) or a folder (the md5 of its listing).

    What .dvcignore lists does not count: bytecode, editors' swap files.
    """
    if not path.is_dir():
        return file_digests.md5(path)
    ignored = _ignored_names()
    files = {file.relative_to(path): file for file in path.rglob("*") if not file.is_dir()}
    return folder_digest(
        {
            name.as_posix(): digest(file)
            for name, file in files.items()
            if not _is_ignored(name, ignored)
        }
    )


def _ignored_names() -> list[str]:
    """The patterns of file and folder names in .dvcignore; a slash ends those of folders."""
    if not DVCIGNORE.exists():
        return ["__pycache__/"]
    lines = map(str.strip, DVCIGNORE.read_text("utf-8", "replace").splitlines())
    return [line for line in lines if line and "/" not in line[:-1] and line[0] not in "#!"]


def _is_ignored(path: PurePath, patterns: Iterable[str]) -> bool:
    folders = path.parts[:-1]
    return any(
        any(fnmatchcase(folder, pattern.removesuffix("/")) for folder in folders)
        or fnmatchcase(path.name, pattern)  # no file's name ends in a slash
        for pattern in patterns
    )


def folder_digest(files: Mapping[str, str]) -> str:
    """DVC's digest of a folder, from those of its files by their paths in it."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    text = json.dumps(listing, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"
