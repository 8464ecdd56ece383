"""A result of DVC's with all its files, from its cache or its remote."""

import dataclasses
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import history as records
from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.git import text_at
from pipeline.experiments import dvc
from pipeline.experiments.dvc_results import METRICS, MODELS, TEST, DvcResult
from pipeline.network import model_folder
from pipeline.network.halves import cut_as_trained
from pipeline.tracking import provenance, record
from pipeline.tracking.record import TrainedResult

HISTORY, AUGMENTED = "reports/history.csv", "reports/augmented.png"
TOLD = ("accuracy", "correct", "n")  # by a run's description
SPLIT, REPORT = "data/split.csv", "reports/report.html"


@contextmanager
def outcome(held: DvcResult) -> Iterator[TrainedResult]:
    """A result with its files, from DVC's cache or its remote, for as long as the block takes.

    Raises:
        PipelineError: DVC does not have them.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _fetch(held, folder)
        try:
            card = model_folder.read_card(folder / MODELS)
            history = _history(folder / HISTORY)
            figures = _figures(folder / METRICS)
            record.describe_splits(folder / SPLIT)
            page = (folder / REPORT).read_text("utf-8", "replace")
        except (PipelineError, OSError, ValueError, TypeError, KeyError) as error:
            raise PipelineError(f"the files of {held.label} in DVC's cache are damaged") from error
        yield TrainedResult(
            held.values,
            tags(held) | {provenance.FINGERPRINT: card.fingerprint},
            files(held),
            folder / MODELS,
            lambda: _trained(folder / MODELS),
            history,
            folder / AUGMENTED,
            folder / SPLIT,
            figures,
            folder / TEST,
            page,
            held.when,
        )


def _fetch(held: DvcResult, folder: Path) -> None:
    from dvc.api import DVCFileSystem

    for path in (HISTORY, SPLIT):
        (folder / path).parent.mkdir()
    with dvc.errors_as_sentences(
        f"DVC did not hand over all files of {held.label}",
        "see `dvc pull` and `dvc exp pull`, or run it again",
    ):
        source = DVCFileSystem(str(project.root()), rev=held.revision or None)
        for path in (MODELS, TEST):
            source.get(path, str(folder / path), recursive=True)
        for path in (HISTORY, AUGMENTED, SPLIT, METRICS, REPORT):
            source.get_file(path, str(folder / path))


def _history(path: Path) -> list[dict[str, float]]:
    found = records.read(path)
    wanted = {field.name for field in dataclasses.fields(records.Record)}
    if not found or not all(row.keys() >= wanted and math.isfinite(row["epoch"]) for row in found):
        raise ValueError("no epochs")
    return found


def _figures(path: Path) -> dict[str, float | None]:
    found = json.loads(path.read_text())
    told = [found.get(name) for name in TOLD] if isinstance(found, dict) else [None]
    if not all(isinstance(value, int | float) for value in told):
        raise ValueError("no figures")
    return {name: value for name, value in found.items() if isinstance(value, int | float | None)}


def tags(held: DvcResult) -> dict[str, str]:
    """What is known of where a result comes from, without the machine."""
    return provenance.digest_tags(held.lock, provenance.DATA) | {
        provenance.EXPERIMENT: held.experiment,
        provenance.BASELINE: held.commit if held.experiment else "",
        provenance.COMMIT: held.commit,
        provenance.CHANGED: provenance.describe_patch(held.changes),
        "mlflow.source.name": "pipeline sync",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": held.commit,
    }


def files(held: DvcResult) -> dict[str, str]:
    """As `origin.files` has them."""
    if not held.revision:
        return provenance.read_files(held.commit)
    found = {
        name: text_at(held.revision, name) or "" for name in (provenance.PARAMS, provenance.LOCK)
    }
    patch = held.changes
    return found | ({provenance.CHANGES: patch} if 0 < len(patch) <= provenance.MAX_CHANGES else {})


def _trained(models: Path) -> Any:
    """The part of a saved network that was trained."""
    network, card = model_folder.load(models)
    return cut_as_trained(network, card).suffix
