"""Values requested for one run, which replace those of the committed params.yaml."""

import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core.errors import PipelineError
from pipeline.params import AS_DESCRIBED, Params, load_params, parse_params

OVERRIDE = re.compile(r"(?:\+{0,2}[A-Za-z_][\w.]*=.*|~[A-Za-z_][\w.]*)", re.DOTALL)
MAX_NAME_LENGTH = 40  # characters
MAX_REASON_LENGTH = 200  # characters


@dataclass(frozen=True)
class Overrides:
    values: tuple[str, ...]
    """As `dvc exp run -S` takes them: train.lr=0.003."""

    @property
    def experiment(self) -> str:
        """Name of the experiment: readable, and the same for the same values."""
        words = " ".join(re.sub(r"^\W*\w+\.", "", value) for value in self.values)
        name = re.sub(r"[^A-Za-z0-9]+", "-", words)[:MAX_NAME_LENGTH].strip("-")
        digest = hashlib.sha256("\0".join(self.values).encode()).hexdigest()
        return f"ci-{name}-{digest[:6]}"

    def options(self) -> list[str]:
        """Arguments of `dvc exp run`."""
        return [word for value in self.values for word in ("-S", value)]

    def unrequested(
        self, committed: Mapping[str, object], current: Mapping[str, object]
    ) -> list[str]:
        """Params that differ from the commit's without an override, as name=value."""
        keys = {_key(value) for value in self.values}
        sections = {key for key in keys if "." not in key}
        return [
            f"{key}={current.get(key)}"
            for key in sorted(committed.keys() | current.keys())
            if committed.get(key) != current.get(key)
            and key not in keys
            and key.partition(".")[0] not in sections
        ]

    def validate(self, params_file: Path) -> Params:
        """Parse a copy of `params_file` with these overrides, before anything runs.

        Raises:
            PipelineError: a key is unknown, or a value is not allowed.
        """
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, params_file.name)
            shutil.copy(params_file, copy)
            self._apply(copy)
            return parse_params(YAML(typ="safe", pure=True).load(copy), params_file.name)

    def _apply(self, params_file: Path) -> None:
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        # "++" adds an unknown key, so that parse_params reports it: its message is the better one.
        added = [value if value[0] in "+~" else f"++{value}" for value in self.values]
        try:
            apply_overrides(str(params_file), added)
        except DvcException as error:
            cause = error.__cause__ or error  # Hydra's error has the reason
            reason = " ".join(str(cause).split())[:MAX_REASON_LENGTH]
            raise PipelineError(f"-S {' '.join(self.values)}: {reason}") from error


def parse_overrides(dataset: str | None, backbone: str | None, values: Sequence[str]) -> Overrides:
    """Overrides from the options of the command, checked: they may come from a form on the web.

    Raises:
        PipelineError: there is no such data set, or a value is not KEY=VALUE for params.yaml.
    """
    if dataset:
        _check_dataset(dataset)
    named = {"dataset.name": dataset, "model.backbone": backbone}
    names_source = any(_key(value) in {"dataset", "dataset.source"} for value in values)
    if dataset and not names_source and not _is_in_params(dataset):
        named["dataset.source"] = AS_DESCRIBED  # the source in params.yaml is of other images
    overrides = (*(f"{key}={value}" for key, value in named.items() if value), *values)
    for value in overrides:
        _check_syntax(value)
    return Overrides(overrides)


def _check_dataset(dataset: str) -> None:
    names = sorted(path.parent.name for path in Path("datasets").glob("*/dataset.toml"))
    if dataset not in names:
        close = difflib.get_close_matches(dataset, names, n=1)
        raise PipelineError(
            f"no data set is called {dataset!r}{f' (did you mean {close[0]}?)' if close else ''}: "
            f"{', '.join(names) or 'datasets/ has none'}"
        )


def _is_in_params(dataset: str, params_file: Path = Path("params.yaml")) -> bool:
    return params_file.exists() and load_params(params_file).dataset.name == dataset


def _check_syntax(value: str) -> None:
    # With a file name before the key, -S would edit any file, even the commands in dvc.yaml.
    if not OVERRIDE.fullmatch(value):
        raise PipelineError(f"-S {value!r} is not KEY=VALUE with a key of params.yaml")
    if "${" in value:  # interpolation can read environment variables
        raise PipelineError(f"-S {value!r}: ${{...}} is not allowed in a value")
    # dvc.yaml puts these values between single quotes into shell commands.
    if _key(value).partition(".")[0] == "dataset" and "'" in value:
        raise PipelineError(f"-S {value!r}: a data set's name or source has no single quote")


def _key(value: str) -> str:
    return value.lstrip("+~").partition("=")[0]
