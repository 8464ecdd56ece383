"""From a training to its MLflow run, and from what DVC holds of one to the same run."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.core import dvc_lock
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import read_split
from pipeline.params import Params
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.run import Run
from pipeline.tracking.store import UNREACHABLE, MlflowRun

HEADLINES = ("accuracy", "loss", "f1.macro", "roc_auc.macro", "ece")
CONTEXTS = dict(zip(SPLITS, ("training", "validation", "test"), strict=True))


@dataclass(frozen=True)
class TrainedResult:
    """Everything that a run tells of a trained and tested model, wherever it is from."""

    values: Mapping[str, object]
    """Its params by dotted name; they may be of another version's."""
    tags: Mapping[str, str]
    """Where it comes from, its fingerprint among them."""
    files: Mapping[str, str]
    """Texts of `origin.FOLDER`, by name."""
    models: Path
    trained: Callable[[], nn.Module]
    """What training changed of the network."""
    history: Sequence[Mapping[str, float]]
    augmented: Path
    """A picture of augmented images, if there is one."""
    split_csv: Path
    figures: Mapping[str, float | None]
    """What metrics.json holds."""
    test: Path
    page: str
    """HTML of the report."""
    began: int | None = None
    """When, in ms since 1970, if not now."""

    @property
    def name(self) -> str:
        return name_of(self.tags)

    @property
    def dataset(self) -> str:
        return str(self.values[provenance.DATASET])

    @property
    def results(self) -> dict[str, str]:
        """The tags that a whole run has."""
        return {
            provenance.MODELS: dvc_lock.digest(self.models),
            provenance.TEST: dvc_lock.digest(self.test),
        }


@contextmanager
def training(params: Params, fingerprint: str, split_csv: Path) -> Iterator[Run]:
    """The run of a training: FINISHED when the block ends well, else FAILED or KILLED.

    One that was stopped goes on in the run that it began.
    """
    run, tags = Run(), provenance.everything(fingerprint)
    _open(run, params.flat(), tags)
    with _ending(run):
        run.texts(provenance.files(tags[provenance.COMMIT]), provenance.FOLDER)
        run.datasets(params.dataset.name, splits_of(split_csv))
        run.watch()
        yield run


def _open(run: Run, values: Mapping[str, object], tags: Mapping[str, str]) -> None:
    """Open the run that this training began when it was stopped, or else a new one."""
    try:
        find_run.close_abandoned()
        placed = dict(tags) | find_run.parent(str(values[provenance.DATASET]), tags)
        with store.exclusive("opening"):  # or two would go on in one
            begun = find_run.stopped(values, tags[provenance.FINGERPRINT])
            if begun is None:
                run.start(values, name_of(tags), placed)
            else:
                run.resume(begun, name_of(tags), placed)
    except UNREACHABLE as error:
        run.silence(error)


@contextmanager
def _ending(run: Run, ended: int | None = None) -> Iterator[None]:
    """Close the run as what the block came to."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, and the signal to end
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED", ended)


def trained(
    run: Run, models: Path, history: Sequence[Mapping[str, float]], suffix: nn.Module | None
) -> None:
    """Log what a training ends with; last the tag by which a whole one is known."""
    best = min(history, key=lambda record: record["val_loss"])
    run.kept(best)
    if suffix is not None:
        run.checkpoint(suffix, "trained")
    run.model(models, math.ceil(best["epoch"]))
    with (models / "model.safetensors").open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    run.tags({"model.sha256": sha256, provenance.MODELS: dvc_lock.digest(models)})


def evaluation(outcome: TrainedResult) -> None:
    """Add a test result to the run that trained the model; make that run where it is missing."""
    try:
        find_run.close_abandoned()
        earlier = find_run.find(outcome.values, outcome.tags, outcome.results[provenance.MODELS])
        placed = dict(outcome.tags) | find_run.parent(outcome.dataset, outcome.tags)
    except UNREACHABLE as error:
        Run().silence(error)
        return
    complete(replace(outcome, tags=placed), earlier)


def complete(outcome: TrainedResult, earlier: MlflowRun | None) -> bool:
    """Give `earlier`, or a new run, all of `outcome` that it lacks; return whether it has it."""
    run, known = Run(), earlier.data.tags if earlier else {}
    results = outcome.results
    if all(known.get(tag) == value for tag, value in results.items()):
        return True
    if earlier is None:
        run.start(outcome.values, outcome.name, outcome.tags, outcome.began)
    else:
        run.resume(earlier.info.run_id)
    with _ending(run, earlier.info.end_time if earlier else outcome.began):
        if earlier is None:
            run.texts(outcome.files, provenance.FOLDER)
            run.datasets(outcome.dataset, splits_of(outcome.split_csv))
        if known.get(provenance.MODELS) != results[provenance.MODELS]:
            _train_again(run, outcome)
        _tested(run, outcome)
        run.tags({provenance.TEST: results[provenance.TEST]})
    return run.id is not None


def _train_again(run: Run, outcome: TrainedResult) -> None:
    """Log what the training would have."""
    for record in outcome.history:
        run.validation(record)
    if outcome.augmented.exists():
        run.artifact(outcome.augmented, "train")
    keeps = outcome.values.get("train.log_checkpoints") != "none"
    suffix = outcome.trained() if keeps and run.id else None
    trained(run, outcome.models, outcome.history, suffix)


def _tested(run: Run, outcome: TrainedResult) -> None:
    """Log the test result: headlines, and by class and slice in sections of their own."""
    for name, value in outcome.figures.items():
        run.metrics({_section(name, outcome.figures) + name: value})
    run.artifacts(outcome.test, "test")
    run.texts({"report.html": outcome.page})
    run.describe(_description(outcome))


def _section(name: str, figures: Mapping[str, float | None]) -> str:
    """Where a figure stands on MLflow's pages: what is compared first, the rest can be closed."""
    of = name.partition(".")[2]
    if name in HEADLINES:
        return "test/"
    if ".slice." in name:
        return "test_slices/"
    by_class = f"recall.{of}" in figures and of != "macro"
    return "test_classes/" if by_class else "test_details/"


def _description(outcome: TrainedResult) -> str:
    """Markdown: how good it is, its report, and how to get it back."""
    figures, tags = outcome.figures, outcome.tags
    experiment, commit = tags[provenance.EXPERIMENT], tags[provenance.COMMIT][:7]
    lines = [
        f"**Accuracy {figures['accuracy']:.4f}** ({figures['correct']} of {figures['n']} test "
        f"images of {outcome.dataset}): [the report]({{artifacts}}/report.html).",
        f"DVC experiment `{experiment}`, on commit `{commit}`: `dvc exp apply {experiment}`"
        if experiment
        else f"`dvc repro` on commit `{commit}`",
        "Make it again, and compare: `pipeline reproduce {id}`",
    ]
    return "\n\n".join(lines)


def name_of(tags: Mapping[str, str]) -> str:
    """What a run is called: as DVC's experiment, or after the commit."""
    return tags[provenance.EXPERIMENT] or f"repro-{tags[provenance.COMMIT][:7]}"


def splits_of(split_csv: Path) -> dict[str, dict[str, Any]]:
    """What MLflow keeps of each split; a digest of the ids tells whether two saw the same."""
    rows = read_split(split_csv)
    shown = {}
    for split, context in CONTEXTS.items():
        own = [row for row in rows if row.split == split]
        ids = "\n".join(row.id for row in own)
        shown[context] = {
            "digest": hashlib.sha256(f"{split}\n{ids}".encode()).hexdigest()[:16],
            "images": dict(sorted(Counter(row.label for row in own).items())),
        }
    return shown
