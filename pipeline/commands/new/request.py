"""What `pipeline new` was asked for, and the dataset.toml that it writes."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.params import AS_DESCRIBED, load_params

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
KEYS = ("pattern", "table", "label_column", "file_column")


@dataclass(frozen=True)
class Request:
    name: str
    pattern: str | None = None
    table: str | None = None
    label_column: str | None = None
    file_column: str | None = None

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
        if self.folder.exists():
            raise PipelineError(f"{self.folder} exists: take another name, or delete it first")

    @property
    def folder(self) -> Path:
        """The folder of its dataset.toml."""
        return Path("datasets", self.name)

    @property
    def keys(self) -> dict[str, str]:
        """The keys of dataset.toml that were given."""
        values = {key: getattr(self, key) for key in KEYS}
        return {key: value for key, value in values.items() if value is not None}


def check_one_source(sources: Sequence[str], queries: Sequence[str], urls: str | None) -> None:
    """Refuse none or several kinds of source.

    Raises:
        PipelineError: there is not exactly one.
    """
    if sum(map(bool, (sources, queries, urls))) != 1:
        raise PipelineError(
            "give one source: a folder or archives, --from-flickr for each class, or --from-urls"
        )


def write_toml(folder: Path, values: Mapping[str, object]) -> None:
    """Write a dataset.toml: texts and numbers, then tables of them."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"{key} = {_quote(value)}" for key, value in plain.items()]
    for key, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]"]
            lines += [f"{_quote(name)} = {_quote(value)}" for name, value in table.items()]
    atomic.write_text(folder / "dataset.toml", "\n".join(lines) + "\n")


def _quote(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_quote(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def print_next(request: Request, tracked: Sequence[str]) -> None:
    """Print the commands that come next."""
    source = load_params().dataset.source
    # A source in params.yaml is of other images.
    option = "" if source == AS_DESCRIBED else f" -S dataset.source={AS_DESCRIBED}"
    print_line(f"next: git add {' '.join(tracked)}")
    print_line(f"then: dvc exp run -S dataset.name={request.name}{option}")
