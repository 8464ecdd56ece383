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

    def __init__(self, form: Format, top_k: int, has_sets: bool = False) -> None:
        """`has_sets`: whether rows say which classes an image may be of."""
        self._form = form
        self._top_k = top_k
        self._has_sets = has_sets
        if form is Format.CSV:
            print_csv(_header(top_k, has_sets))

    def write(self, answer: "Answer") -> None:
        """Print the row."""
        if self._form is Format.JSON:
            print_json(_record(answer, self._top_k, self._has_sets))
        elif self._form is Format.CSV:
            print_csv(_cells(answer, self._top_k, self._has_sets))
        else:
            print_line(*_columns(answer, self._has_sets))


def _record(answer: "Answer", top_k: int, has_sets: bool) -> dict[str, object]:
    prediction = answer.prediction
    record: dict[str, object] = {"path": answer.image.name, **prediction.record()}
    if not has_sets:
        del record["set"], record["none_of_these"]
    if top_k > 1:
        record["top"] = [{"label": name, "probability": value} for name, value in prediction.top]
    return record


def _header(top_k: int, has_sets: bool) -> list[str]:
    further = [(f"label_{rank}", f"probability_{rank}") for rank in range(2, top_k + 1)]
    sets = ["answer"] if has_sets else []
    return ["path", "label", "probability", "problem", *chain.from_iterable(further), *sets]


def _cells(answer: "Answer", top_k: int, has_sets: bool) -> list[object]:
    prediction = answer.prediction
    pairs = [*prediction.top, *[("", "")] * (top_k - len(prediction.top))]
    (label, probability), *further = pairs
    rest = chain.from_iterable(further)
    sets = [_describe_set(answer)] if has_sets else []
    return [answer.image.name, label, probability, prediction.problem or "", *rest, *sets]


def _columns(answer: "Answer", has_sets: bool) -> Sequence[str]:
    name, prediction = answer.image.name, answer.prediction
    if prediction.problem is not None:
        return [name, "-", "-", prediction.problem]
    pairs = ((label, f"{probability:.4f}") for label, probability in prediction.top)
    return [name, *chain.from_iterable(pairs), *([_describe_set(answer)] if has_sets else [])]


def _describe_set(answer: "Answer") -> str:
    candidates = answer.prediction.candidates
    return "" if candidates is None else candidates.describe()
