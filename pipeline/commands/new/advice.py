"""Advice about dataset.toml, as options of `pipeline new`, which has not written it yet."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import LABEL_KEYS

TABLES = {"splits": "--split", "labels": "--rename"}
"""Key of dataset.toml with a table -> the option for one line of it."""
VALUE = re.compile(rf"(?<![\w./'-])({'|'.join(LABEL_KEYS)}) = (?=['\"])")
COLUMN = re.compile(r"(?<![\w./'-])(label_column|file_column)(?![\w.'])")
TABLE = re.compile(rf"(?<![\w./'-])({'|'.join(TABLES)}) = \{{[^{{}}]*\}}")
FLAG = re.compile(r"(?<![\w./'-])ignore_splits = true")
# Keys that a message is about, without values.
KEYS = (
    (re.compile(r"\bsplits in dataset\.toml"), "--split"),
    (re.compile(r"\bwhich splits( of the source)? names\b"), "which --split names"),
    (re.compile(r"\bwhich dataset\.toml renames under \[labels\]"), "which --rename renames"),
    (re.compile(r"\bwith pattern (?=or )"), "with --pattern "),
    (re.compile(r"\bunless table names"), "unless --table names"),
    (re.compile(r"\buse a copy with -S dataset\.source=PATH"), "give the path of a copy"),
)
VERB = re.compile(r"\b[Ww]rite(?= --)")
PLACE = re.compile(r" (in|into) dataset\.toml")


@contextmanager
def advised_of_options() -> Iterator[None]:
    """Let errors name options in the place of keys of dataset.toml.

    Raises:
        PipelineError: the block raises one.
    """
    try:
        yield
    except PipelineError as error:
        raise PipelineError(to_options(str(error))) from error


def to_options(message: str) -> str:
    """Replace the lines of dataset.toml in a message by the options that write them.

    `label_column = 'x'` is `--label-column 'x'`, and `splits = {"a" = "train"}` `--split a=train`.
    """
    message = TABLE.sub(_table_options, message)
    message = VALUE.sub(lambda match: f"{_option(match[1])} ", message)
    for pattern, option in KEYS:
        message = pattern.sub(option, message)
    message = FLAG.sub("--ignore-splits", message)
    message = COLUMN.sub(lambda match: _option(match[1]), message)
    message = VERB.sub(lambda match: "Give" if match[0] == "Write" else "give", message)
    return PLACE.sub("", message)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _table_options(match: re.Match[str]) -> str:
    try:
        table = tomllib.loads(match[0])[match[1]]
    except tomllib.TOMLDecodeError:  # a name in it has quotes
        return match[0]
    lines = (shlex.quote(f"{name}={value}") for name, value in table.items())
    return " ".join(f"{TABLES[match[1]]} {line}" for line in lines)
