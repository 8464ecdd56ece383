"""Print predictions as a table, JSON or CSV."""

from collections.abc import Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.core.terminal import print_csv, print_json, print_line

if TYPE_CHECKING:  # it imports torch
    from pipeline.inference.predict import Answer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Writer:
    """Prints a row per answer at once, so that an interrupted command leaves its results."""

    def __init__(self, form: Format, top_k: int) -> None:
        self._form = form
        self._top_k = top_k
        if form is Format.CSV:
            print_csv(_header(top_k))

    def write(self, answer: "Answer") -> None:
        """Print the row."""
        if self._form is Format.JSON:
            print_json(_record(answer, self._top_k))
        elif self._form is Format.CSV:
            print_csv(_cells(answer, self._top_k))
        else:
            print_line(*_columns(answer))


def _record(answer: "Answer", top_k: int) -> dict[str, object]:
    prediction = answer.prediction
    record: dict[str, object] = {
        "path": answer.image.name,
        "label": prediction.label,
        "probability": prediction.probability,
        "problem": prediction.problem,
    }
    if top_k > 1:
        record["top"] = [{"label": name, "probability": value} for name, value in prediction.top]
    return record


def _header(top_k: int) -> list[str]:
    further = [(f"label_{rank}", f"probability_{rank}") for rank in range(2, top_k + 1)]
    return ["path", "label", "probability", "problem", *chain.from_iterable(further)]


def _cells(answer: "Answer", top_k: int) -> list[object]:
    prediction = answer.prediction
    pairs = [*prediction.top, *[("", "")] * (top_k - len(prediction.top))]
    (label, probability), *further = pairs
    rest = chain.from_iterable(further)
    return [answer.image.name, label, probability, prediction.problem or "", *rest]


def _columns(answer: "Answer") -> Sequence[str]:
    name, prediction = answer.image.name, answer.prediction
    if prediction.problem is not None:
        return [name, "-", "-", prediction.problem]
    pairs = ((label, f"{probability:.4f}") for label, probability in prediction.top)
    return [name, *chain.from_iterable(pairs)]
