"""What a run was asked to change: values laid over the committed params.yaml."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core.errors import PipelineError
from pipeline.params import parse_params

CHANGE = re.compile(r"(?:\+{0,2}[A-Za-z_][\w.]*=.*|~[A-Za-z_][\w.]*)", re.DOTALL)
MAX_OF_NAME = 40  # characters


@dataclass(frozen=True)
class Overrides:
    changes: tuple[str, ...]
    """As `dvc exp run -S` takes them: train.lr=0.003."""

    @property
    def experiment(self) -> str:
        """A name that says what was asked, and is the same whenever the same is asked."""
        words = " ".join(re.sub(r"^\W*\w+\.", "", change) for change in self.changes)
        shown = re.sub(r"[^A-Za-z0-9]+", "-", words)[:MAX_OF_NAME].strip("-")
        digest = hashlib.sha256("\0".join(self.changes).encode()).hexdigest()
        return f"ci-{shown}-{digest[:6]}"

    def options(self) -> list[str]:
        return [word for change in self.changes for word in ("-S", change)]

    def foreign(self, committed: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
        """Values of params.yaml that neither the commit nor the asker chose, as name=value."""
        chosen = {_key(change) for change in self.changes}
        sections = {key.partition(".")[0] for key in chosen} & chosen
        return [
            f"{key}={now.get(key)}"
            for key in sorted(committed.keys() | now.keys())
            if committed.get(key) != now.get(key)
            and key not in chosen
            and key.partition(".")[0] not in sections
        ]

    def check(self, file: Path) -> None:
        """Read `file` as it would be with the changes, before anything runs or is written.

        Raises:
            PipelineError: a key is unknown, or a value is not what params allow.
        """
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, file.name)
            shutil.copy(file, copy)
            # A key that is unknown is added: params say which there are, Hydra would not.
            added = [change if change[0] in "+~" else f"++{change}" for change in self.changes]
            try:
                apply_overrides(str(copy), added)
            except DvcException as error:
                cause = error.__cause__ or error  # which has the reason
                first = " ".join(str(cause).split())[:200]
                raise PipelineError(f"-S {' '.join(self.changes)}: {first}") from error
            parse_params(YAML(typ="safe", pure=True).load(copy), file.name)


def parse_overrides(dataset: str | None, backbone: str | None, changes: Sequence[str]) -> Overrides:
    """Checked, since it may come from a form on the web.

    Raises:
        PipelineError: there is no such data set, or a change is none of a param.
    """
    if dataset:
        _known(dataset)
    named = {"dataset.name": dataset, "model.backbone": backbone}
    both = [*(f"{key}={value}" for key, value in named.items() if value), *changes]
    for change in both:
        _check(change)
    return Overrides(tuple(both))


def _known(dataset: str) -> None:
    names = sorted(path.parent.name for path in Path("datasets").glob("*/dataset.toml"))
    if dataset not in names:
        raise PipelineError(
            f"no data set is called {dataset!r}: {', '.join(names) or 'none is here'}"
        )


def _check(change: str) -> None:
    # With a file's name before it, -S would change any file, the commands of dvc.yaml as well.
    if not CHANGE.fullmatch(change):
        raise PipelineError(f"-S {change!r} is not KEY=VALUE with a key of params.yaml")
    if "${" in change:  # DVC would put another value there, of the environment even
        raise PipelineError(f"-S {change!r}: a value is given as it is, without ${{...}}")
    # dvc.yaml has these values between single quotes, in commands that a shell reads.
    if _key(change).partition(".")[0] == "dataset" and "'" in change:
        raise PipelineError(f"-S {change!r}: a data set's name or source has no single quote")


def _key(change: str) -> str:
    return change.lstrip("+~").partition("=")[0]
