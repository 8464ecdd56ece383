"""Recipes: files with the params of known experiments."""

import difflib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError

FOLDER = Path("recipes")

Value = bool | int | float | str | list[float] | None


class Recipe(BaseModel):
    """The content of recipes/NAME.yaml."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    about: str
    """What the experiment is, and its result."""
    deviations: list[str]
    """From the tutorial that it repeats, with reasons."""
    params: dict[str, dict[str, Value]]
    """By section."""

    def options(self) -> list[str]:
        """Arguments of `dvc exp run`: -S, section.key=value, and so on."""
        return [
            word
            for section, values in self.params.items()
            for key, value in values.items()
            for word in ("-S", f"{section}.{key}={_to_hydra(value)}")
        ]


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Recipe:
    """Read and validate a recipe.

    Raises:
        PipelineError: it does not exist, or its file is invalid.
    """
    if not names():
        raise PipelineError(f"no recipes in {FOLDER}: run this in the project's folder")
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise PipelineError(f"no recipe is called {name}{hint}: {', '.join(names())}")
    path = FOLDER / f"{name}.yaml"
    try:
        return Recipe.model_validate(YAML(typ="safe", pure=True).load(path))
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise PipelineError(f"{path}: {key}: {first['msg']}") from error


def _to_hydra(value: Value) -> str:
    """As `dvc exp run -S` parses it, without blanks, so that it is one word in a shell."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
