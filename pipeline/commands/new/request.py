"""What `pipeline new` was asked for, and the dataset.toml that it writes."""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.commands.new.advice import TABLES
from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.datasets.dataset_toml import (
    LABEL_KEYS,
    ExternalDataset,
    FolderDataset,
    UrlsDataset,
)
from pipeline.params import AS_DESCRIBED

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Request:
    name: str
    pattern: str | None = None
    table: str | None = None
    label_column: str | None = None
    file_column: str | None = None
    encoding: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    wanted: int | None = None
    stay: bool = False
    ignore_splits: bool = False

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            PipelineError: it is not a valid name, or taken.
        """
        if not NAME.fullmatch(self.name):
            raise PipelineError(
                f"{self.name!r} is not a name for a data set: letters, digits, dots, dashes and "
                "underscores, the first a letter or digit"
            )
        if _is_other_value(self.name):
            raise PipelineError(
                f"{self.name!r} is not a name for a data set: params.yaml and `-S` would read it "
                f"as a number or another value; take, for example, photos-{self.name}"
            )
        if self.folder.exists():
            raise PipelineError(f"{self.folder} exists: take another name, or move it elsewhere")

    @property
    def folder(self) -> Path:
        """The folder of its dataset.toml."""
        return Path("datasets", self.name)

    @property
    def keys(self) -> dict[str, object]:
        """The keys of dataset.toml that were given."""
        values = {key: getattr(self, key) for key in (*LABEL_KEYS, *TABLES, "ignore_splits")}
        return {key: value for key, value in values.items() if value}


def describe(request: Request, kind: Literal["folder", "urls"]) -> ExternalDataset:
    """A data set with the keys that were given.

    Raises:
        PipelineError: a value is invalid.
    """
    try:
        model = FolderDataset if kind == "folder" else UrlsDataset
        return model.model_validate(request.keys | {"kind": kind, "description": ""})
    except ValidationError as error:
        first = error.errors()[0]
        key, reason = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        option = f"--{key.replace('_', '-')} {request.keys[key]!r}"
        if key in TABLES:
            value = f" '{first['loc'][1]}={first['input']}'" if first["loc"][1:] else ""
            option = f"{TABLES[key]}{value}"
        raise PipelineError(f"{option}: {reason}") from error


def check_options(request: Request, names: Collection[str], what: str) -> None:
    """Refuse options that have no effect on a kind of source.

    Args:
        names: Of the options that have one.
        what: The kind of source, for the message.

    Raises:
        PipelineError: another option was given.
    """
    for name in (*LABEL_KEYS, *TABLES, "wanted", "stay", "ignore_splits"):
        if name not in names and getattr(request, name):
            option = TABLES.get(name, f"--{name.replace('_', '-')}")
            raise PipelineError(f"{option} has no effect on {what}: leave it out")


def _is_other_value(name: str) -> bool:
    """Whether YAML or Hydra read a text as a number, a boolean or nothing."""
    try:
        float(name.replace("_", ""))
    except ValueError:
        return name.lower() in {"true", "false", "null"}
    return True


def check_one_source(sources: Sequence[str], queries: Sequence[str], urls: str | None) -> None:
    """Refuse none or several kinds of source.

    Raises:
        PipelineError: there is not exactly one.
    """
    if sum(map(bool, (sources, queries, urls))) != 1:
        raise PipelineError(
            "give one source: a folder or archives, --from-flickr for each class, or --from-urls"
        )


def parse_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """The name and value of each text, such as cat=Cat; a name may have the sign itself.

    Raises:
        PipelineError: one has no name or value, or two are of one name.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value:
            raise PipelineError(f"{option} {text!r} is not NAME=VALUE")
        if name in pairs:
            raise PipelineError(f"{option} is given twice for {name!r}")
        pairs[name] = value
    return pairs


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Remove the folder of a new data set if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_toml(folder: Path, values: Mapping[str, object]) -> None:
    """Write a dataset.toml: texts and numbers, then tables of them."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_quote(value)}" for key, value in plain.items()]
    for key, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]"]
            lines += [f"{_quote(name)} = {_quote(value)}" for name, value in table.items()]
    with removed_on_failure(folder):
        atomic.write_text(folder / "dataset.toml", "\n".join(lines) + "\n")


def _quote(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_quote(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def print_next(request: Request, tracked: Sequence[str]) -> None:
    """Print the commands that come next."""
    # params.yaml may have a source of other images, now or when the line is run again.
    option = f"-S dataset.source={AS_DESCRIBED}"
    print_line(f"next: git add {' '.join(tracked)} && git commit -m 'Add {request.name}'")
    print_line(f"then: dvc exp run -S dataset.name={request.name} {option}")
