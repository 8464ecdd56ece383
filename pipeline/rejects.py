"""datasets/<name>/reject.csv: what a person has looked at and does not want, and why."""

import csv
from pathlib import Path

from pipeline.errors import PipelineError

NAME = "reject.csv"
COLUMNS = ("id", "why")


def read(folder: Path) -> dict[str, str]:
    """Why each image is not wanted, by id; nothing where there is no such file.

    Raises:
        PipelineError: it is not a table of ids and reasons.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, strict=True)
            if lines.fieldnames is None or tuple(lines.fieldnames) != COLUMNS:
                raise PipelineError(f"{path} should start with the line {','.join(COLUMNS)}")
            return {_id(line, path, lines.line_num): line["why"] or "" for line in lines}
    except (csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not a CSV file in UTF-8: {error}") from error


def _id(line: dict[str, str], path: Path, number: int) -> str:
    key = line["id"].strip().lower()
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise PipelineError(
            f"{path}, line {number}: {key!r} is no image's id, which has 64 hexadecimal digits: "
            "copy it from data/verdicts.csv"
        )
    return key
