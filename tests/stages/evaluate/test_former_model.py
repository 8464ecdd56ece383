import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.core import columns, csv_table
from pipeline.core.csv_table import CsvRows
from pipeline.stages.evaluate.former_model import (
    FormerPrediction,
    judge_against_former,
    read_former,
)
from pipeline.stages.evaluate.intervals import ALONE, Groups
from pipeline.stages.evaluate.origin import UNKNOWN, read_origin
from pipeline.stages.evaluate.verdict import Outcome
from tests.builders.results import result_of

HEADER = "id,label,predicted,group,p_label,class_1,p_1\n"


def row(number: int, label: str, predicted: str) -> str:
    return f"{number:064x},{label},{predicted},,0.5,{predicted},0.5\n"


def store(content: bytes, suffix: str = "") -> str:
    """Put an object into DVC's cache; returns its name."""
    digest = hashlib.md5(content).hexdigest()
    path = Path(".dvc/cache/files/md5", digest[:2], digest[2:] + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest + suffix


@pytest.fixture
def commit(world: Path) -> str:
    """A commit whose result, of two images, is in DVC's cache."""
    predictions = (HEADER + row(0, "a", "a") + row(1, "b", "a")).encode()
    listing = [{"md5": store(predictions), "relpath": "predictions.csv"}]
    folder = store(json.dumps(listing).encode(), ".dir")
    outs = [{"path": "reports/test", "md5": folder}]
    YAML(typ="safe", pure=True).dump({"stages": {"evaluate": {"outs": outs}}}, Path("dvc.lock"))
    Path(".dvc/config").touch()
    Path("test").mkdir()
    for command in (["init", "-q"], ["add", "dvc.lock"], ["commit", "-q", "-m", "x"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *command], check=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def write_own(text: str) -> Path:
    Path("test/predictions.csv").write_text(text, newline="")
    return Path("test")


def test_the_predictions_of_a_commit_are_those_of_its_lock(commit: str) -> None:
    former = read_former(commit, write_own(HEADER + row(0, "a", "b")))
    assert former is not None
    assert list(former) == [
        FormerPrediction(f"{0:064x}", "a", "a"),
        FormerPrediction(f"{1:064x}", "b", "a"),
    ]


def test_the_same_predictions_are_not_compared(commit: str) -> None:
    assert read_former(commit, write_own(HEADER + row(0, "a", "a") + row(1, "b", "a"))) is None


def test_without_a_result_in_the_cache_there_is_no_former_model(commit: str) -> None:
    own = write_own(HEADER)
    assert read_former("", own) is None
    assert read_former("0" * 40, own) is None
    for path in Path(".dvc/cache").rglob("*.dir"):
        path.write_bytes(b"damaged")
    assert read_former(commit, own) is None


def test_damaged_predictions_are_not_compared(commit: str) -> None:
    own = write_own(HEADER)
    for path in Path(".dvc/cache").rglob("*"):
        if path.is_file() and path.suffix != ".dir":
            path.write_bytes(b"id\n\xff\n")
    assert read_former(commit, own) is None


def predictions(ids: Iterable[str], label: str, predicted: str) -> CsvRows[FormerPrediction]:
    rows = (FormerPrediction(key, label, predicted) for key in ids)
    return csv_table.collect(FormerPrediction, rows)


def alone(count: int) -> Groups:
    return np.full(count, ALONE, np.int32)


def test_a_model_is_better_on_the_images_of_both() -> None:
    result = result_of([0] * 20, np.eye(2)[[0] * 20], ["a", "b"])
    former = predictions(columns.iterate(result.ids[:12]), "a", "b")
    judged = judge_against_former(former, "3f9c2ab1ffff", result, alone(20))
    assert judged.outcome is Outcome.GOOD
    assert judged.title == "Better than the model of commit 3f9c2ab1"
    assert judged.evidence.startswith("On the 12 test images of both: +100.0 points")


def test_relabelled_images_are_not_compared() -> None:
    result = result_of([0, 1], np.eye(2), ["a", "b"])
    former = predictions(columns.iterate(result.ids), "c", "c")
    judged = judge_against_former(former, "3f9c2ab1ffff", result, alone(2))
    assert (judged.outcome, judged.title) == (
        Outcome.OPEN,
        "Not comparable with the model of commit 3f9c2ab1",
    )


def test_an_origin_has_the_date_of_the_commit_and_the_former_model(commit: str) -> None:
    result = result_of([0, 1], np.eye(2), ["a", "b"])
    tags = {"git.commit": commit, "git.changed": "yes", "dvc.experiment": "bold-aunt"}
    own = write_own(HEADER + row(0, "a", "a") + row(1, "b", "b"))
    origin = read_origin(tags, result, alone(2), own)
    date = subprocess.run(
        ["git", "log", "-1", "--format=%cs"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert (origin.commit, origin.date, origin.is_changed) == (commit, date, True)
    assert origin.experiment == "bold-aunt"
    assert origin.former is not None
    assert "2 instead of 1 of 2 images right" in origin.former.evidence
    assert read_origin(tags | {"git.commit": ""}, result, alone(2), own) == UNKNOWN
