"""datasets/<name>/reject.csv: images that a person rejected, and why."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from pipeline.core import csv_cells
from pipeline.core.errors import PipelineError

NAME = "reject.csv"
COLUMNS = ("id", "why")


def read(folder: Path) -> dict[str, str]:
    """Read why each image is rejected, by id; empty if there is no such file.

    Raises:
        PipelineError: it is not a table of ids and reasons.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv_cells.DictReader(file, strict=True)
            if table.fieldnames and tuple(table.fieldnames) != COLUMNS:
                raise PipelineError(
                    f"{path} should start with the line {','.join(COLUMNS)} and have commas, not "
                    f"with {','.join(table.fieldnames)[:80]!r}"
                )
            return {_id(line, path, table.line_num): line["why"] or "" for line in table}
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not in UTF-8: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise PipelineError(f"{path} is not a CSV file: {error}") from error


def lines(rows: Iterable[tuple[str, str]]) -> str:
    """The file's text for ids and reasons; "" for none."""
    text, listed = io.StringIO(), list(rows)
    csv_cells.write_rows(text, [COLUMNS, *listed] if listed else [])
    return text.getvalue()


def _id(line: dict[str, str], path: Path, number: int) -> str:
    key = line["id"].strip().lower()
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise PipelineError(
            f"{path}, line {number}: {key!r} is not an image id (64 hexadecimal digits): "
            "copy it from data/verdicts.csv"
        )
    return key
