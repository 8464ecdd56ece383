"""What dvc.lock knows of the last run of a stage."""

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
    try:
        found = YAML(typ="safe", pure=True).load(lock)["stages"][stage]["params"]["params.yaml"]
    except (FileNotFoundError, KeyError, TypeError):
        return {}
    except YAMLError as error:
        raise PipelineError(f"{lock} is not YAML: {error}".splitlines()[0]) from error
    return found if isinstance(found, dict) else {}
