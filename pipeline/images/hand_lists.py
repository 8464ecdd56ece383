"""reject.csv and relabel.csv beside dataset.toml: what people decide about single images.

People keep these tables, in editors and spreadsheets.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pipeline.core import csv_cells
from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc

REJECT_CSV, RELABEL_CSV = "reject.csv", "relabel.csv"
COLUMNS = {REJECT_CSV: ("id", "why"), RELABEL_CSV: ("id", "label", "why")}
ID_DIGITS = 64
MAX_CLASSES = 10  # in a message


@dataclass(frozen=True)
class Correction:
    """The label that an image has instead of the source's."""

    label: str
    """In NFC, as the names of classes are."""
    line: int
    """Of relabel.csv, from 1."""


def read_rejects(folder: Path) -> dict[str, str]:
    """Read why each image of reject.csv is rejected, by id; empty if there is no such file.

    Raises:
        PipelineError: it is not a table of ids and reasons.
    """
    return {key: row["why"] for key, _, row in _read(folder / REJECT_CSV)}


def read_corrections(folder: Path) -> dict[str, Correction]:
    """Read the label of each image of relabel.csv, by id; empty if there is no such file.

    Of several lines for an image the last counts.

    Raises:
        PipelineError: it is not a table of ids and labels.
    """
    return {
        key: Correction(to_nfc(row["label"]), line)
        for key, line, row in _read(folder / RELABEL_CSV)
    }


def check_labels(
    folder: Path, corrections: Mapping[str, Correction], classes: Collection[str]
) -> None:
    """Refuse labels that are not classes of the data set: a typing error would make a new one.

    Raises:
        PipelineError: a label is none of `classes`; the message names line, label and classes.
    """
    for correction in corrections.values():
        if correction.label in classes:
            continue
        near = get_close_matches(correction.label, classes, 1)
        names = sorted(classes)
        class_list = ", ".join(names[:MAX_CLASSES]) + (", ..." if len(names) > MAX_CLASSES else "")
        advice = f"did you mean {near[0]!r}" if near else f"the classes are {class_list}"
        raise PipelineError(
            f"{folder / RELABEL_CSV}, line {correction.line}: {correction.label!r} is not a class "
            f"of the data set: {advice}"
        )


def format_rejects(rows: Iterable[tuple[str, str]]) -> str:
    """The text of reject.csv for ids and reasons; "" for none."""
    body = format_rows(rows)
    return format_rows([COLUMNS[REJECT_CSV]]) + body if body else ""


def format_rows(rows: Iterable[Sequence[str]]) -> str:
    """Lines of such a table."""
    text = io.StringIO()
    csv_cells.write_rows(text, rows)
    return text.getvalue()


def _read(path: Path) -> Iterator[tuple[str, int, dict[str, str]]]:
    """The id, the number of the line, and the cells of each row; "" where a line is too short."""
    if not path.exists():
        return
    columns = COLUMNS[path.name]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv_cells.DictReader(file, strict=True)
            while table.fieldnames == []:  # an empty line before the header
                table.fieldnames = None
            if table.fieldnames and tuple(table.fieldnames) != columns:
                raise PipelineError(
                    f"{path} should start with the line {','.join(columns)} and have commas, not "
                    f"with {','.join(table.fieldnames)[:80]!r}"
                )
            for row in table:
                key = _check_id(row["id"], path, table.line_num)
                yield key, table.line_num, {name: row[name] or "" for name in columns}
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not in UTF-8: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise PipelineError(f"{path} is not a CSV file: {error}") from error


def _check_id(text: str, path: Path, line: int) -> str:
    key = text.strip().lower()
    if len(key) != ID_DIGITS or set(key) - set("0123456789abcdef"):
        raise PipelineError(
            f"{path}, line {line}: {key!r} is not an image id (64 hexadecimal digits): "
            "copy it from data/verdicts.csv"
        )
    return key
