"""Restore all files of a result from DVC's cache or its remote."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pipeline.core import dvc_lock, history, project
from pipeline.core.errors import PipelineError
from pipeline.core.git import text_at
from pipeline.core.history import Record
from pipeline.core.terminal import one_line
from pipeline.experiments import dvc, metrics_json
from pipeline.experiments.dvc_results import METRICS, MODELS, TEST, DvcResult
from pipeline.network import model_folder
from pipeline.stages.evaluate import figures_csv
from pipeline.tracking import provenance, record
from pipeline.tracking.result import TrainedResult, load_trained_part

HISTORY, AUGMENTED = "reports/history.csv", "reports/augmented.png"
SPLIT, REPORT = "data/split.csv", "reports/report.html"
REQUIRED_METRICS = ("accuracy", "correct", "n")  # in the description of a run


@contextmanager
def restore(result: DvcResult) -> Iterator[TrainedResult]:
    """A result with its files, which exist until the block ends.

    Raises:
        PipelineError: DVC does not have them, or they are damaged.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _fetch(result, folder)
        # Anybody may have written these files.
        try:
            restored = _read(result, folder)
        except (PipelineError, OSError, ValueError, KeyError) as error:
            raise PipelineError(
                f"the files of {result.label} in DVC's cache are damaged ({one_line(error)}): "
                "`pipeline doctor --repair`, then run it again"
            ) from error
        yield restored


def _fetch(result: DvcResult, folder: Path) -> None:
    from dvc.api import DVCFileSystem

    for path in (HISTORY, SPLIT):
        (folder / path).parent.mkdir()
    with dvc.errors_as_sentences(
        f"DVC cannot provide all files of {result.label}",
        "see `dvc pull` and `dvc exp pull`, or run it again",
    ):
        source = DVCFileSystem(str(project.root()), rev=result.revision or None)
        for path in (MODELS, TEST):
            source.get(path, str(folder / path), recursive=True)
        for path in (HISTORY, AUGMENTED, SPLIT, METRICS, REPORT):
            source.get_file(path, str(folder / path))


def _read(result: DvcResult, folder: Path) -> TrainedResult:
    """The fetched files as one record; checks those that are parsed later, too.

    Raises:
        PipelineError, OSError, ValueError, KeyError: a file is damaged.
    """
    card = model_folder.read_card(folder / MODELS)
    _require_digests(result, folder)
    record.describe_splits(folder / SPLIT)
    return TrainedResult(
        result.params,
        tags(result)
        | {provenance.FINGERPRINT: card.fingerprint}
        | provenance.deviation_tags(card.deviation),
        files(result),
        folder / MODELS,
        partial(load_trained_part, folder / MODELS),
        _read_history(folder / HISTORY),
        folder / AUGMENTED,
        folder / SPLIT,
        _read_figures(folder),
        folder / TEST,
        (folder / REPORT).read_text("utf-8", "replace"),
        result.time_ms,
    )


def _require_digests(result: DvcResult, folder: Path) -> None:
    for path, md5 in ((MODELS, result.models_md5), (TEST, result.test_md5)):
        if dvc_lock.digest(folder / path) != md5:
            raise ValueError(f"{path} is not as in dvc.lock")


def _read_history(path: Path) -> list[Record]:
    records = history.read(path)
    if not records:
        raise ValueError("no epochs")
    return records


def _read_figures(folder: Path) -> dict[str, float | None]:
    """The figures of a test result by flat names; older versions have all in metrics.json."""
    metrics = metrics_json.parse((folder / METRICS).read_text())
    if any(metrics.get(name) is None for name in REQUIRED_METRICS):
        raise ValueError("no metrics")
    figures = figures_csv.read_figures(folder / TEST, metrics)
    return metrics if figures is None else figures.flat()


def tags(result: DvcResult) -> dict[str, str]:
    """Provenance of a result as tags of a run; the machine is unknown."""
    return provenance.digest_tags(result.lock, provenance.DATA) | {
        provenance.EXPERIMENT: result.experiment,
        provenance.BASELINE: result.commit if result.experiment else "",
        provenance.COMMIT: result.commit,
        provenance.CHANGED: provenance.describe_patch(result.changes),
        "mlflow.source.name": "pipeline sync",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": result.commit,
    }


def files(result: DvcResult) -> dict[str, str]:
    """Texts that a run has in `provenance.FOLDER`, by name."""
    if not result.revision:
        return provenance.read_files(result.commit)
    texts = {
        name: text_at(result.revision, name) or "" for name in (provenance.PARAMS, provenance.LOCK)
    }
    if 0 < len(result.changes) <= provenance.MAX_CHANGES:
        texts[provenance.CHANGES] = result.changes
    return texts
