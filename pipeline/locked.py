"""What dvc.lock knows of the last run of a stage."""

import hashlib
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError

LOCK = Path("dvc.lock")


def params_of(stage: str, lock: Path = LOCK) -> dict[str, Any]:
    """The sections of params.yaml that a stage last ran with; none where it never did.

    Raises:
        PipelineError: the file is not YAML.
    """
    found = _stage(stage, lock).get("params")
    sections = found.get("params.yaml") if isinstance(found, dict) else None
    return sections if isinstance(sections, dict) else {}


def ran_with(stage: str, dep: str, file: Path, lock: Path = LOCK) -> bool:
    """Whether `dep` of a stage was, when it last ran, what `file` is now.

    Raises:
        PipelineError: the lock is not YAML.
    """
    deps = _stage(stage, lock).get("deps")
    known = {dep.get("path"): dep.get("md5") for dep in deps or () if isinstance(dep, dict)}
    digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()  # as DVC has it
    return known.get(dep) == digest


def _stage(name: str, lock: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(lock)["stages"][name]
    except (FileNotFoundError, KeyError, TypeError):
        return {}
    except YAMLError as error:
        raise PipelineError(f"{lock} is not YAML: {error}".splitlines()[0]) from error
    return found if isinstance(found, dict) else {}
