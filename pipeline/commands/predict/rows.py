"""Answers as rows: for people, for programs, and for spreadsheets."""

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.core.terminal import printable

if TYPE_CHECKING:  # which would import torch
    from pipeline.inference.predict import Answer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Writer:
    """Prints one row an answer, at once: what has been said stays said."""

    def __init__(self, form: Format, top_k: int) -> None:
        self._form = form
        self._csv = csv.writer(sys.stdout, lineterminator="\n")
        self._top_k = top_k
        if form is Format.CSV:
            self._csv.writerow(_header(top_k))

    def write(self, answer: "Answer") -> None:
        """Print the row."""
        if self._form is Format.JSON:
            print(json.dumps(_record(answer, self._top_k)))
        elif self._form is Format.CSV:
            self._csv.writerow(_cells(answer, self._top_k))
        else:
            print("\t".join(_columns(answer)))
        sys.stdout.flush()


def _record(answer: "Answer", top_k: int) -> dict[str, object]:
    found = answer.prediction
    record: dict[str, object] = {
        "path": answer.image.name,
        "label": found.label,
        "probability": found.probability,
        "problem": found.problem,
    }
    if top_k > 1:
        record["top"] = [{"label": name, "probability": chance} for name, chance in found.top]
    return record


def _header(top_k: int) -> list[str]:
    further = [(f"label_{place}", f"probability_{place}") for place in range(2, top_k + 1)]
    return ["path", "label", "probability", "problem", *chain.from_iterable(further)]


def _cells(answer: "Answer", top_k: int) -> list[object]:
    found = answer.prediction
    pairs = [*found.top, *[("", "")] * (top_k - len(found.top))]
    (label, chance), *further = pairs
    rest = chain.from_iterable(further)
    return [answer.image.name, label, chance, found.problem or "", *rest]


def _columns(answer: "Answer") -> Sequence[str]:
    name, found = printable(answer.image.name), answer.prediction
    if found.problem is not None:
        return [name, "-", "-", printable(found.problem)]
    pairs = ((printable(label), f"{chance:.4f}") for label, chance in found.top)
    return [name, *chain.from_iterable(pairs)]
