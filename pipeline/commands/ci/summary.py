"""What a run came to, beside another revision, as a page of Markdown."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.ci import dvc_steps, markdown, mermaid, revisions
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import PARAMS, Revision
from pipeline.core import atomic, terminal
from pipeline.core.errors import PipelineError
from pipeline.experiments import predictions
from pipeline.experiments.comparison import Comparison, compare
from pipeline.experiments.predictions import Prediction

HEADLINES = {
    "accuracy": "accuracy",
    "f1.macro": "macro F1",
    "roc_auc.macro": "ROC AUC",
    "loss": "log loss",
    "ece": "calibration error (ECE)",
    "n": "test images",
}
HISTORY = Path("reports/history.csv")
MAX_PARAMS = 40  # that are listed
THIS = "this run"


@dataclass(frozen=True)
class Facts:
    """What the page is made of."""

    asked: Overrides
    head: Revision
    changed: list[str]
    """Files that are not as in the commit."""
    stages: dvc_steps.Stages
    remote: str | None
    shared: str
    """What became of pulling and pushing, in a sentence."""
    against: Revision | None
    problem: str
    """Why there is nothing to compare with, "" where there is."""
    params: dict[str, object]
    metrics: dict[str, Any]
    artifact: str | None
    """Under what name a server keeps reports/."""


@dataclass(frozen=True)
class Verdict:
    told: str
    comparison: Comparison | None


def judged(against: Revision | None, problem: str, test: Path) -> Verdict:
    """This run's model against that of a revision, where both were tested on the same images."""
    if against is None:
        return Verdict(f"Not compared: {problem}.", None)
    try:
        against.metrics()  # without these there are no predictions either
        found = compare(predictions.find(against.commit), predictions.find(str(test)))
    except PipelineError as error:
        return Verdict(f"Not compared with {against.shown}: {error}.", None)
    apart = f" {found.apart} test images of only one of them are left out." if found.apart else ""
    return Verdict(found.verdict(against.name, THIS) + apart, found)


def page(facts: Facts, verdict: Verdict, said: Mapping[str, Prediction]) -> str:
    """The whole page."""
    values = facts.params
    title = markdown.escape(f"{values['dataset.name']}, {values['model.backbone']}")
    parts = [
        [f"## Pipeline: {title}"],
        [markdown.escape(verdict.told)],
        _origin(facts),
        ["### Metrics", "", *_metrics(facts, verdict)],
        ["### Params", "", *_params(facts)],
        ["### Training", "", *_training()],
        ["### Confusion", "", *mermaid.confusion(said.values())],
        _rest(facts),
    ]
    return "\n".join(line for part in parts for line in [*part, ""])


def write(text: str, file: Path | None) -> str:
    """Where it went: `file`, else the job's summary on GitHub, else nowhere ("")."""
    job = os.environ.get("GITHUB_STEP_SUMMARY")
    if file is not None:
        atomic.write_text(file, text)
        return str(file)
    if job:
        with Path(job).open("a", encoding="utf-8") as summary:  # of which others write parts, too
            summary.write(text)
        return "the job's summary"
    return ""


def show(facts: Facts) -> None:
    """Print the figures, where nobody reads Markdown."""
    before, _ = _metrics_of(facts.against, facts.problem)
    terminal.print_table(_header(facts), _figures(facts, before), numbers=True)


def _origin(facts: Facts) -> list[str]:
    told: list[tuple[str, markdown.Cell]] = [("commit", facts.head.commit)]
    if facts.changed:
        told.append(("not as in the commit", ", ".join(facts.changed)))
    if facts.asked.changes:
        told += [
            ("set for this run", " ".join(facts.asked.changes)),
            ("experiment", facts.asked.experiment),
        ]
    return markdown.facts([*told, ("stages", facts.stages.told()), ("remote", facts.shared)])


def _metrics(facts: Facts, verdict: Verdict) -> list[str]:
    before, problem = _metrics_of(facts.against, facts.problem)
    if before and (verdict.comparison is None or verdict.comparison.apart):
        problem = "Not of the same test images, or not known to be: these differences say little."
    return [
        *markdown.table(_header(facts), _figures(facts, before)),
        "",
        *([markdown.escape(problem), ""] if problem else []),
        "In brackets: Wilson's 95 % interval.",
    ]


def _header(facts: Facts) -> list[str]:
    return ["", facts.against.shown if facts.against else "-", THIS, "difference"]


def _figures(facts: Facts, before: Mapping[str, Any]) -> list[list[str]]:
    return [
        [shown, _value(key, before), _value(key, facts.metrics), _difference(key, before, facts)]
        for key, shown in HEADLINES.items()
    ]


def _metrics_of(against: Revision | None, problem: str) -> tuple[dict[str, Any], str]:
    if against is None:
        return {}, f"Nothing to compare with: {problem}."
    try:
        return against.metrics(), ""
    except PipelineError as error:
        return {}, f"Nothing to compare with: {error}."


def _value(key: str, figures: Mapping[str, Any]) -> str:
    value = _number(figures.get(key))
    if value is None:
        return "-"
    low, high = (_number(figures.get(f"{key}.wilson_{end}")) for end in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.4f} to {high:.4f})"
    return f"{value:,.0f}" if key == "n" else f"{value:.4f}{interval}"


def _difference(key: str, before: Mapping[str, Any], facts: Facts) -> str:
    one, other = _number(before.get(key)), _number(facts.metrics.get(key))
    if one is None or other is None:
        return "-"
    return f"{other - one:+,.0f}" if key == "n" else f"{other - one:+.4f}"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _params(facts: Facts) -> list[str]:
    if facts.against is None:
        return [markdown.escape(f"Nothing to compare with: {facts.problem}.")]
    try:
        before = facts.against.params()
    except PipelineError as error:
        return [markdown.escape(f"Nothing to compare with: {error}.")]
    now = facts.params
    keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if not keys:
        return [f"All are those of {markdown.escape(facts.against.shown)}."]
    rows = [[key, _shown(before, key), _shown(now, key)] for key in keys[:MAX_PARAMS]]
    more = [f"and {len(keys) - MAX_PARAMS} more"] if len(keys) > MAX_PARAMS else []
    return [*markdown.table(["", facts.against.shown, THIS], rows), *more]


def _shown(values: Mapping[str, object], key: str) -> str:
    return json.dumps(values[key], default=str).strip('"') if key in values else "-"


def _training() -> list[str]:
    rows = atomic.read_csv(HISTORY) if HISTORY.exists() else []
    history = [{name: float(value) for name, value in row.items()} for row in rows]
    if not history:
        return ["There is no history."]
    best = min(history, key=lambda record: record["val_loss"])
    told = (
        f"Best validation: loss {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.4f}, "
        f"in epoch {best['epoch']:g} of {history[-1]['epoch']:g}."
    )
    return [told, "", *mermaid.curves(history)]


def _rest(facts: Facts) -> list[str]:
    where = f"the artifact `{facts.artifact}`" if facts.artifact else "`reports/`"
    lines = [
        "### The rest",
        "",
        f"`report.html` (all figures and pictures) and `data.html` are in {where}.",
    ]
    if facts.asked.changes:
        lines += ["", *_again(facts)]
    elif revisions.lock_changed():
        lines += [
            "",
            "`dvc.lock` is not the commit's: commit it with `reports/metrics.json`, "
            "or the next clone starts from an older state.",
        ]
    return lines


def _again(facts: Facts) -> list[str]:
    """The line that makes the result on another machine."""
    command, options = ["dvc", "exp", "run"], facts.asked.options()
    if not facts.remote:
        return [
            "The same again, on any clone of the commit:",
            "",
            *markdown.code(shlex.join([*command, *options])),
        ]
    line = shlex.join([*command, "--pull", *options])
    return [
        "This result, on any clone of the commit with the same remote:",
        "",
        *markdown.code(f"dvc pull --run-cache --allow-missing && {line}"),
    ]


def params_now() -> dict[str, object]:
    """Values of params.yaml, as it stands."""
    return revisions.flat(Path(PARAMS).read_text("utf-8"), PARAMS)
