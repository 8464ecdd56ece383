"""dvc.lock: what each stage last ran with, and what it made."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError

LOCK = Path("dvc.lock")
# Nine tenths of a lock are the code that stages depend on, as files with a digest.
CODE = re.compile(rb"^    - path: pipeline/.*\n(?:      .*\n)*", re.MULTILINE)

Lock = dict[str, dict[str, Any]]
"""What is known of each stage, in the file's order."""


def read(lock: Path = LOCK) -> Lock:
    """What a lock file knows; nothing where it is missing.

    Raises:
        PipelineError: the file is not YAML.
    """
    return parse(lock.read_bytes(), str(lock)) if lock.exists() else {}


def parse(text: bytes, source: str = "dvc.lock") -> Lock:
    """As `read`, of a text; `source` is what people call it."""
    try:
        found = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # a date that is none, a deep nest
        raise PipelineError(f"{source} is not YAML: {error}".splitlines()[0]) from error
    stages = found.get("stages") if isinstance(found, dict) else None
    return {
        name: stage
        for name, stage in (stages if isinstance(stages, dict) else {}).items()
        if isinstance(name, str) and isinstance(stage, dict)
    }


def without_code(text: bytes) -> bytes:
    """A lock that is read ten times as fast, and knows nothing of code."""
    return CODE.sub(b"", text)


def outs(lock: Lock, stage: str) -> dict[str, str]:
    """DVC's digests of what a stage made, by path."""
    return _digests(lock.get(stage, {}).get("outs"))


def deps(lock: Lock, stage: str) -> dict[str, str]:
    """DVC's digests of what a stage depended on, by path."""
    return _digests(lock.get(stage, {}).get("deps"))


def _digests(listed: object) -> dict[str, str]:
    return {
        str(each["path"]): str(each["md5"])
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict) and {"path", "md5"} <= each.keys()
    }


def params(lock: Lock, stage: str) -> dict[str, Any]:
    """The sections of params.yaml that a stage last ran with; none where it never did."""
    found = lock.get(stage, {}).get("params")
    sections = found.get("params.yaml") if isinstance(found, dict) else None
    return sections if isinstance(sections, dict) else {}


def ran_with(lock: Lock, stage: str, dep: str, file: Path) -> bool:
    """Whether `dep` of a stage was, when it last ran, what `file` is now."""
    return deps(lock, stage).get(dep) == digest(file)


def digest(path: Path) -> str:
    """What DVC calls a file or a folder by: an md5, of a folder that of its listing."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    listed = [
        {"md5": digest(each), "relpath": each.relative_to(path).as_posix()}
        for each in path.rglob("*")
        if not each.is_dir()
    ]
    listed.sort(key=lambda each: each["relpath"])
    text = json.dumps(listed, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"
