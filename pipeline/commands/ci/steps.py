"""The steps of `pipeline ci`: check, pull, run, push, summarise, record."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.ci import dvc_steps, revisions, summary
from pipeline.commands.ci.ci_run import CiRun, Reference, Sharing
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import METRICS, PARAMS, Revision
from pipeline.commands.ci.summary import ReferenceVerdict
from pipeline.core import atomic, terminal
from pipeline.core.errors import PipelineError
from pipeline.experiments import last_good_lock
from pipeline.experiments.predictions import load_predictions
from pipeline.experiments.sync import sync

if TYPE_CHECKING:
    from pipeline.commands.ci.champion import PromotionOutcome

TEST = Path("reports/test")


@dataclass(frozen=True)
class SummaryOptions:
    against: str
    """The revision to compare the result with."""
    file: Path | None
    """Where to write the summary; None: GitHub's job summary, or nowhere."""
    artifact: str | None
    """The name under which the CI server keeps reports/."""
    fail_if_worse: bool
    promote: bool = False
    """Whether the model may become the champion."""
    issue: Path | None = None
    """Where to write what a person should decide."""


def run(overrides: Overrides, options: SummaryOptions) -> None:
    """Run all steps.

    Raises:
        PipelineError: a stage fails, the remote does not accept the result, or the model is worse
            and `options.fail_if_worse` is set.
    """
    head = revisions.read_head()
    _mend_lock()
    overrides.validate(Path(PARAMS))
    check_params(overrides, head)
    reference = _find_reference(options)

    remote = dvc_steps.default_remote()
    is_pulled = _pull(remote)
    stages = dvc_steps.reproduce(overrides, pull=is_pulled)
    terminal.print_line(f"ci: {stages.describe()}")
    _mend_lock()  # keeps a copy of the new one
    sharing = Sharing(remote, is_pulled, is_pushed=remote is not None and dvc_steps.push())
    terminal.print_line(f"ci: {sharing.describe()}")

    ci_run = CiRun(
        overrides,
        head,
        revisions.changed_files(),
        stages,
        sharing,
        reference,
        summary.read_params(),
        json.loads(Path(METRICS).read_text("utf-8")),
        options.artifact,
    )
    _record_run()
    outcome = _promote(options) if options.promote else None
    verdict = summarise(ci_run, options.file, outcome, _describe_new_images(reference))
    if problems := _problems(sharing, verdict, options):
        raise PipelineError("; ".join(problems))


def _mend_lock() -> None:
    if sentence := last_good_lock.mend():
        terminal.print_line(f"ci: {sentence}")


def check_params(overrides: Overrides, head: Revision) -> None:
    """Require that params.yaml is the commit's, apart from the overrides.

    Raises:
        PipelineError: other values differ.
    """
    values = overrides.unrequested(head.params(), summary.read_params())
    if values:
        raise PipelineError(
            f"{PARAMS} is not the commit's ({', '.join(values[:5])}), as an earlier experiment "
            "leaves it: commit it, request these values with -S, or restore the commit's with "
            f"`touch {PARAMS} && git checkout HEAD -- {PARAMS}`"
        )


def _find_reference(options: SummaryOptions) -> Reference:
    """The revision to compare with. If it does not exist, warn before the work, or fail."""
    try:
        return Reference(revisions.find_revision(options.against))
    except PipelineError as error:
        if options.fail_if_worse:
            raise
        terminal.warn(f"the result will not be compared: {error}")
        return Reference(None, str(error))


def _pull(remote: str | None) -> bool:
    """Fetch what others computed; returns success. A failing remote is a warning."""
    is_pulled = remote is not None and dvc_steps.pull()
    if remote is not None and not is_pulled:
        terminal.warn(
            f"cannot pull from {remote} (see DVC's message above): what is missing here is computed"
        )
    if not is_pulled:
        dvc_steps.checkout()
    return is_pulled


def _promote(options: SummaryOptions) -> "PromotionOutcome":
    """Promote the model, if it is better than the champion; write the issue if that is close."""
    from pipeline.commands.ci.champion import promote_workspace  # imports torch and mlflow

    outcome = promote_workspace()
    terminal.print_line(f"ci: {outcome.sentence}")
    if options.issue is not None:
        options.issue.unlink(missing_ok=True)  # of an earlier run
        if text := outcome.issue():
            atomic.write_text(options.issue, text)
            terminal.print_line(f"ci: a person should decide: {options.issue}")
    return outcome


def _describe_new_images(reference: Reference) -> list[str]:
    """Sentences about images that the reference lacks."""
    from pipeline.commands.ci.new_images import describe_new_images  # imports torch

    sentences = describe_new_images(reference)
    for sentence in sentences:
        terminal.print_line(f"ci: {sentence}")
    return sentences


def summarise(
    ci_run: CiRun,
    file: Path | None,
    outcome: "PromotionOutcome | None" = None,
    new_images: Sequence[str] = (),
) -> ReferenceVerdict:
    """Write the summary; print and return the verdict."""
    verdict = summary.compare_models(ci_run.reference, TEST)
    page = summary.render(ci_run, verdict, load_predictions(str(TEST)).images, outcome, new_images)
    target = summary.write(page, file)
    if not target:
        summary.print_metrics(ci_run)
    hint = f"Summary: {target}" if target else "--summary FILE writes params and charts, too"
    terminal.print_line(f"ci: {verdict.sentence} {hint}")
    return verdict


def _record_run() -> None:
    """Create the MLflow run of a result that was restored. An unreachable server is a warning."""
    try:
        for synced in sync(workspace_only=True):
            outcome = synced.action or synced.problem
            terminal.print_line(f"ci: MLflow run of {synced.label}: {outcome}")
    except PipelineError as error:
        terminal.warn(f"{error}; `pipeline sync` records the result later")


def _problems(sharing: Sharing, verdict: ReferenceVerdict, options: SummaryOptions) -> list[str]:
    """Why the command must fail, although the result was computed."""
    problems = []
    if sharing.remote is not None and not sharing.is_pushed:
        problems.append(
            f"the result is here, but could not be pushed to {sharing.remote} (see DVC's message "
            "above): `dvc push --run-cache` once it can be reached"
        )
    if options.fail_if_worse and (verdict.comparison is None or verdict.comparison.is_worse):
        problems.append(verdict.sentence)
    return problems
