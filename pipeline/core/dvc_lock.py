"""dvc.lock: the deps, params and outs of each stage's last run."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError

LOCK = Path("dvc.lock")

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
        return parse(lock.read_bytes(), str(lock))
    except PipelineError as error:
        raise PipelineError(f"{error}: `pipeline doctor` puts back the last good one") from error


def load(text: bytes, source: str = "dvc.lock") -> object:
    """Load the text of a lock file, whatever it holds; error messages name `source`."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # bad dates, deep nesting
        raise PipelineError(f"{source} is not YAML: {error}".splitlines()[0]) from error


def parse(text: bytes, source: str = "dvc.lock") -> Lock:
    """The stages in the text of a lock file; error messages name `source`."""
    content = load(text, source)
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

    Python's bytecode does not count: .dvcignore lists it.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return folder_digest(
        {
            file.relative_to(path).as_posix(): digest(file)
            for file in path.rglob("*")
            if not file.is_dir() and file.parent.name != "__pycache__"
        }
    )


def folder_digest(files: Mapping[str, str]) -> str:
    """DVC's digest of a folder, from those of its files by their paths in it."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    text = json.dumps(listing, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"
