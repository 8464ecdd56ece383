"""Record a training and its evaluation in one MLflow run, also afterwards from DVC's results."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.core import dvc_lock, file_digests, history, terminal
from pipeline.core.history import Record
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import read_split
from pipeline.params import Params
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.metric_sections import in_sections
from pipeline.tracking.missing_parts import END, OF_EVALUATION, missing_parts
from pipeline.tracking.result import TrainedResult
from pipeline.tracking.run import Run
from pipeline.tracking.run_names import TRAINED, training_name
from pipeline.tracking.split_summary import SplitSummary
from pipeline.tracking.stale_stages import describe, stale_stages, state_of_workspace
from pipeline.tracking.store import UNREACHABLE, MlflowRun

CONTEXTS = dict(zip(SPLITS, ("training", "validation", "test"), strict=True))


def open_training_run(
    params: Params, fingerprint: str, split_csv: Path, deviation: str, run: Run
) -> None:
    """Open `run` as the run of a training. A training that was stopped continues in its first run.

    Args:
        deviation: How the images differ from those that the data set describes.
    """
    lock = dvc_lock.read()
    tags = provenance.run_tags(fingerprint, deviation, lock) | _stale_tags(lock)
    _open(run, params.flat(), tags)
    run.log_texts(provenance.read_files(tags[provenance.COMMIT]), provenance.FOLDER)
    run.log_datasets(params.dataset.name, describe_splits(split_csv))
    run.log_system_metrics()


def _stale_tags(lock: dvc_lock.Lock) -> dict[str, str]:
    """A tag if the data were not made by the present params and code, as by `dvc repro -s`."""
    stale = stale_stages(lock, state_of_workspace(), "features")
    if not stale:
        return {}
    terminal.warn(f"the features are of an earlier state ({describe(stale)}): run `dvc repro`")
    return {provenance.STALE: " ".join(stale)}


def _open(run: Run, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
    """Open the run of this training if it was stopped before, otherwise a new one."""

    def open_run() -> None:
        find_run.close_abandoned()
        parent = find_run.parent_tags(str(params[provenance.DATASET]), tags)
        all_tags, name = {**tags, **parent}, training_name(tags)
        with store.exclusive("opening"):  # otherwise two processes may resume the same run
            run_id = find_run.find_stopped(params, tags[provenance.FINGERPRINT])
            if run_id is None:
                run.start(params, name, all_tags)
            else:
                run.resume(run_id, params, name, all_tags)

    if error := store.catch_error(open_run):
        run.disable(error)


@contextmanager
def closing(run: Run, end_time: int | None = None) -> Iterator[None]:
    """Close the run with the status of the block; `end_time` is in ms since 1970."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C and SIGTERM
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED", end_time)


def log_trained(run: Run, models: Path, records: Sequence[Record]) -> None:
    """Log the result of a training; last the tag that marks the training as complete."""
    best = history.best(records)
    run.log_best(best)
    solution = json.loads((models / "model.json").read_bytes()).get("solution") or {}
    run.log_metrics({f"solution/{name}": value for name, value in solution.items()})
    digest = dvc_lock.digest(models)
    run.log_model(models, digest, math.ceil(best.epoch))
    sha256 = file_digests.sha256(models / "model.safetensors")
    run.set_tags({"model.sha256": sha256, provenance.MODELS: digest})


def record_evaluation(result: TrainedResult) -> bool:
    """Add a test result to the run that trained the model; create that run where it is missing.

    Returns:
        Whether the run has everything now; a warning says why not.
    """
    earlier: MlflowRun | None = None
    parent: dict[str, str] = {}

    def find() -> None:
        nonlocal earlier, parent
        find_run.close_abandoned()
        earlier = find_run.find(result.params, result.tags, result.results[provenance.MODELS])
        parent = find_run.parent_tags(result.dataset, result.tags)

    if error := store.catch_error(find):
        Run().disable(error)
        return False
    if earlier is None and (stale := stale_stages(dvc_lock.read(), state_of_workspace(), "train")):
        terminal.warn(
            "MLflow gets no run of this model: it is not of the present params, data and code "
            f"({describe(stale)}); `dvc repro` trains one that is"
        )
        return False
    return complete(replace(result, tags={**result.tags, **parent}), earlier)


def complete(result: TrainedResult, earlier: MlflowRun | None) -> bool:
    """Add what `earlier`, or else a new run, lacks of a result; return whether it has all now."""
    run, results = Run(), result.results
    lacking = {"run"}
    if earlier is None:
        run.start(result.params, result.name, result.tags, result.start_time)
    else:
        try:
            lacking = set(missing_parts(earlier, results))
        except UNREACHABLE as error:
            run.disable(error)
            return False
        if not lacking:
            return True
        run.resume(earlier.info.run_id, result.params)
    with closing(run, earlier.info.end_time if earlier else result.start_time):
        if lacking - OF_EVALUATION - {END}:
            run.log_texts(result.files, provenance.FOLDER)
            run.log_datasets(result.dataset, describe_splits(result.split_csv))
            _log_training(run, result)
        if lacking - {END}:
            _log_evaluation(run, result)
            run.set_tags({provenance.TEST: results[provenance.TEST]})
    return run.id is not None


def _log_training(run: Run, result: TrainedResult) -> None:
    """Log what the training itself logs."""
    for record in result.history:
        run.log_validation(record)
    if result.augmented.exists():
        run.log_file(result.augmented, "train")
    logs_checkpoint = result.params.get("train.log_checkpoints") != "none"
    if logs_checkpoint and run.id:
        run.log_checkpoint(result.trained(), TRAINED)
    log_trained(run, result.models, result.history)


def _log_evaluation(run: Run, result: TrainedResult) -> None:
    """Log the test result; metrics per class and per slice are in sections of their own."""
    run.log_metrics(in_sections(result.metrics))
    run.log_folder(result.test, "test")
    run.log_texts({"report.html": result.report})
    run.set_description(_description(result))
    run.add_test_result_to_model()


def _description(result: TrainedResult) -> str:
    """Markdown: the accuracy, the report, and how to restore the result."""
    metrics, tags = result.metrics, result.tags
    experiment, commit = tags[provenance.EXPERIMENT], tags[provenance.COMMIT][:7]
    lines = [
        f"**Accuracy {metrics['accuracy']:.4f}** ({metrics['correct']} of {metrics['n']} test "
        f"images of {result.dataset}): [the report]({{artifacts}}/report.html).",
        describe_origin(experiment, commit),
        "Make it again, and compare: `pipeline reproduce {id}`",
    ]
    return "\n\n".join(lines)


def describe_origin(experiment: str, commit: str) -> str:
    """In Markdown: what made a result, and the command that restores it."""
    if not experiment:
        return f"`dvc repro` on commit `{commit}`"
    if not re.fullmatch(r"[\w./-]+", experiment, re.ASCII):
        # git accepts names with $, ; and backticks, and people copy this command into a shell.
        return f"A DVC experiment on commit `{commit}`: `dvc exp show` lists it"
    return f"DVC experiment `{experiment}`, on commit `{commit}`: `dvc exp apply {experiment}`"


def describe_splits(split_csv: Path) -> dict[str, SplitSummary]:
    """The summary of each split, by MLflow's name for it."""
    rows = read_split(split_csv)
    summaries = {}
    for split, context in CONTEXTS.items():
        split_rows = [row for row in rows if row.split == split]
        ids = "\n".join(row.id for row in split_rows)
        summaries[context] = SplitSummary(
            digest=hashlib.sha256(f"{split}\n{ids}".encode()).hexdigest()[:16],
            images=dict(sorted(Counter(row.label for row in split_rows).items())),
        )
    return summaries
