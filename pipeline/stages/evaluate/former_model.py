"""The model of the commit before: its predictions for the same test images, in DVC's cache.

It is compared on the report's copy in MLflow alone. The stage's out may not depend on the commit,
or `dvc repro` would not give the same bytes after the next one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core import columns, csv_table, dvc_cache, dvc_lock
from pipeline.core.csv_table import CsvRows
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.core.git import text_at
from pipeline.stages.evaluate import predictions_csv
from pipeline.stages.evaluate.intervals import Groups
from pipeline.stages.evaluate.test_set import TestSetResult
from pipeline.stages.evaluate.verdict import Outcome, Verdict, judge_difference

STAGE, FOLDER = "evaluate", Path("reports/test")


@dataclass(frozen=True, slots=True)
class FormerPrediction:
    """What the former model predicts for one of its test images."""

    id: str
    label: str
    predicted: str


def read_former(commit: str, test: Path) -> CsvRows[FormerPrediction] | None:
    """The predictions that a commit's dvc.lock names; None where there is nothing to compare.

    That is: no commit, a commit without a result, a result that DVC's cache lacks or that is
    damaged, and one with the same predictions as those in the folder `test`.
    """
    text = text_at(commit, str(dvc_lock.LOCK)) if commit else None
    if text is None:
        return None
    try:
        lock = dvc_lock.parse(text.encode(), is_own=True)
        path = dvc_cache.find_last_output(STAGE, FOLDER, lock).files.get(predictions_csv.NAME)
        if path is None or sha256(path) == sha256(test / predictions_csv.NAME):
            return None
        return csv_table.read(path, FormerPrediction)
    except (PipelineError, OSError, ValueError):
        return None


def judge_against_former(
    former: CsvRows[FormerPrediction], commit: str, result: TestSetResult, groups: Groups
) -> Verdict:
    """Whether the model is better than the former one, on the test images of both.

    An image that has another label now is not compared.
    """
    name = f"the model of commit {commit[:8]}"
    classes = columns.texts(result.classes)
    rows = columns.positions(result.ids, former.column("id"))
    # -1 for images and for classes that only one of the two models knows.
    labels, predicted = (
        np.append(columns.positions(former.column(name), classes), np.int32(-1))[rows]
        for name in ("label", "predicted")
    )
    shared = labels == result.labels
    if not shared.any():
        return Verdict(
            Outcome.OPEN,
            f"Not comparable with {name}",
            "The two have no test image of the same label in common.",
        )
    was_right = (predicted == labels)[shared]
    is_right = (result.predicted == result.labels)[shared]
    count = int(shared.sum())
    images = "all test images" if count == len(shared) else f"the {count} test images of both"
    return judge_difference(
        was_right,
        is_right,
        groups[shared],
        better=f"Better than {name}",
        worse=f"Worse than {name}",
        equal=f"No significant difference from {name}",
        of_first=f"On {images}",
    )
