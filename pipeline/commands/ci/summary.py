"""The result of a run beside that of another revision, as a page of Markdown."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.ci import markdown, mermaid, revisions
from pipeline.commands.ci.ci_run import CiRun, Reference
from pipeline.commands.ci.revisions import PARAMS
from pipeline.core import atomic, history, terminal
from pipeline.core.errors import PipelineError
from pipeline.core.percentages import format_fraction
from pipeline.experiments import dvc_results
from pipeline.experiments.comparison import Comparison, compare
from pipeline.experiments.predictions import Prediction, load_predictions
from pipeline.tracking import stale_stages

if TYPE_CHECKING:
    from pipeline.commands.ci.champion import PromotionOutcome

HEADLINES = {
    "accuracy": "accuracy",
    "f1.macro": "macro F1",
    "roc_auc.macro": "ROC AUC",
    "loss": "log loss",
    "ece": "calibration error (ECE)",
    "n": "test images",
}
HISTORY = Path("reports/history.csv")
MAX_PARAMS = 40  # rows
THIS_RUN = "this run"


@dataclass(frozen=True)
class ReferenceVerdict:
    sentence: str
    comparison: Comparison | None
    """None if the models were not compared."""


def compare_models(reference: Reference, test: Path) -> ReferenceVerdict:
    """Compare the predictions in `test` with those of the reference."""
    revision = reference.revision
    if revision is None:
        return ReferenceVerdict(f"Not compared: {reference.problem}.", None)
    try:
        revision.metrics()  # a revision without metrics has no predictions either
        comparison = compare(load_predictions(revision.commit), load_predictions(str(test)))
    except PipelineError as error:
        return ReferenceVerdict(f"Not compared with {revision.title}: {error}.", None)
    names = revision.name, THIS_RUN
    sentences = [comparison.verdict(*names), *comparison.remarks(*names)]
    if stale := dvc_results.stale_stages_at(revision.commit):
        sentences.append(
            f"The result of {revision.title} is of an earlier state than its params, data and "
            f"code ({stale_stages.describe(stale)})."
        )
    return ReferenceVerdict(" ".join(sentences), comparison)


def render(
    ci_run: CiRun,
    verdict: ReferenceVerdict,
    predictions: Mapping[str, Prediction],
    outcome: "PromotionOutcome | None" = None,
    new_images: Sequence[str] = (),
) -> str:
    """The whole page.

    Args:
        new_images: Sentences about images that the reference lacks; empty if there are none.
    """
    params = ci_run.params
    title = markdown.escape(f"{params['dataset.name']}, {params['model.backbone']}")
    sections = [
        [f"## Pipeline: {title}"],
        [markdown.escape(verdict.sentence)],
        *([["### Champion", "", markdown.escape(outcome.sentence)]] if outcome else []),
        *([["### New images", "", markdown.escape(" ".join(new_images))]] if new_images else []),
        _inputs(ci_run),
        ["### Metrics", "", *_metrics(ci_run, verdict)],
        ["### Params", "", *_params(ci_run)],
        ["### Training", "", *_training()],
        ["### Confusion", "", *mermaid.confusion(predictions.values())],
        ["### Files", "", *_files(ci_run)],
    ]
    return "\n".join(line for lines in sections for line in [*lines, ""])


def write(page: str, file: Path | None) -> str:
    """Write to `file`, else to GitHub's job summary; return where, "" for nowhere."""
    job_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if file is not None:
        atomic.write_text(file, page)
        return str(file)
    if job_summary:
        with Path(job_summary).open(
            "a", encoding="utf-8"
        ) as stream:  # other steps write to it, too
            stream.write(page)
        return "the job's summary"
    return ""


def print_metrics(ci_run: CiRun) -> None:
    """Print the table of metrics in the terminal."""
    reference_metrics, _ = _reference_metrics(ci_run.reference)
    terminal.print_table(_header(ci_run), _metric_rows(ci_run, reference_metrics), numbers=True)


def _inputs(ci_run: CiRun) -> list[str]:
    """What the result was computed from."""
    pairs: list[tuple[str, markdown.TableCell]] = [("commit", ci_run.head.commit)]
    if ci_run.changed_files:
        pairs.append(("not as in the commit", ", ".join(ci_run.changed_files)))
    if ci_run.overrides.values:
        pairs.append(("set for this run", " ".join(ci_run.overrides.values)))
        pairs.append(("experiment", ci_run.overrides.experiment))
    if deviation := _read_deviation():
        pairs.append(("not the images that the data set describes", deviation))
    pairs.append(("stages", ci_run.stages.describe()))
    pairs.append(("remote", ci_run.sharing.describe()))
    return markdown.definitions(pairs)


def _read_deviation(card: Path = Path("models/model.json")) -> str:
    """How the images of the model differ from those of its data set; "" if they do not."""
    return str(json.loads(card.read_text()).get("deviation", "")) if card.exists() else ""


def _metrics(ci_run: CiRun, verdict: ReferenceVerdict) -> list[str]:
    reference_metrics, problem = _reference_metrics(ci_run.reference)
    comparison = verdict.comparison
    if reference_metrics and (comparison is None or comparison.unshared):
        problem = "The test images differ, or may differ: these differences prove little."
    elif comparison and any(comparison.own_classes):
        problem = "The classes differ: these differences prove little."
    return [
        *markdown.table(_header(ci_run), _metric_rows(ci_run, reference_metrics)),
        "",
        *([markdown.escape(problem), ""] if problem else []),
        "In brackets: Wilson's 95 % interval.",
    ]


def _header(ci_run: CiRun) -> list[str]:
    return ["", ci_run.reference.title, THIS_RUN, "difference"]


def _metric_rows(ci_run: CiRun, reference_metrics: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            title,
            _format_metric(key, reference_metrics),
            _format_metric(key, ci_run.metrics),
            _format_difference(key, reference_metrics, ci_run.metrics),
        ]
        for key, title in HEADLINES.items()
    ]


def _reference_metrics(reference: Reference) -> tuple[dict[str, Any], str]:
    """The metrics, and the problem if there are none."""
    try:
        return reference.read_metrics(), ""
    except PipelineError as error:
        return {}, f"Nothing to compare with: {error}."


def _format_metric(key: str, metrics: Mapping[str, Any]) -> str:
    value = _number(metrics.get(key))
    if value is None:
        return "-"
    low, high = (_number(metrics.get(f"{key}.wilson_{bound}")) for bound in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
    if key == "n":
        return f"{value:,.0f}"
    return (f"{value:.4f}" if key == "loss" else format_fraction(value)) + interval


def _format_difference(
    key: str, reference_metrics: Mapping[str, Any], metrics: Mapping[str, Any]
) -> str:
    before, now = _number(reference_metrics.get(key)), _number(metrics.get(key))
    if before is None or now is None:
        return "-"
    return f"{now - before:+,.0f}" if key == "n" else f"{now - before:+.4f}"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _params(ci_run: CiRun) -> list[str]:
    """A table of the params that differ."""
    try:
        before = ci_run.reference.read_params()
    except PipelineError as error:
        return [markdown.escape(f"Nothing to compare with: {error}.")]
    now, title = ci_run.params, ci_run.reference.title
    keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if not keys:
        return [f"The same as {markdown.escape(title)}."]
    rows = [[key, _format_param(before, key), _format_param(now, key)] for key in keys[:MAX_PARAMS]]
    more = [f"and {len(keys) - MAX_PARAMS} more"] if len(keys) > MAX_PARAMS else []
    return [*markdown.table(["", title, THIS_RUN], rows), *more]


def _format_param(params: Mapping[str, object], key: str) -> str:
    return json.dumps(params[key], default=str).strip('"') if key in params else "-"


def _training() -> list[str]:
    records = history.read(HISTORY) if HISTORY.exists() else []
    if not records:
        return [f"{HISTORY} has no rows."]
    best = history.best(records)
    sentence = (
        f"Best validation: loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}, "
        f"in epoch {best.epoch:g} of {records[-1].epoch:g}."
    )
    return [sentence, "", *mermaid.curves(records)]


def _files(ci_run: CiRun) -> list[str]:
    """Where the full reports are, and how to get or keep the result."""
    folder = f"the artifact `{ci_run.artifact}`" if ci_run.artifact else "`reports/`"
    lines = [f"`report.html` (all metrics and pictures) and `data.html` are in {folder}."]
    if ci_run.overrides.values:
        lines += ["", *_rerun_command(ci_run)]
    elif revisions.is_lock_changed():
        lines += [
            "",
            "`dvc.lock` is not the commit's: commit it with `reports/metrics.json`, "
            "or the next clone starts from an older state.",
        ]
    return lines


def _rerun_command(ci_run: CiRun) -> list[str]:
    """The command that gets or computes the result on another machine."""
    options = ci_run.overrides.options()
    if ci_run.sharing.remote is None:
        sentence = "To run the same on any clone of the commit:"
        command = shlex.join(["dvc", "exp", "run", *options])
    else:
        sentence = "To get this result on any clone of the commit with the same remote:"
        run = shlex.join(["dvc", "exp", "run", "--pull", *options])
        command = f"dvc pull --run-cache --allow-missing && {run}"
    return [sentence, "", *markdown.code(command)]


def read_params() -> dict[str, object]:
    """Values of params.yaml in the workspace, by dotted name."""
    return revisions.parse_flat_params(Path(PARAMS).read_text("utf-8"), PARAMS)
