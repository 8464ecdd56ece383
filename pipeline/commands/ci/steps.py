"""The steps of `pipeline ci`."""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.ci import dvc_steps, revisions, summary
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import METRICS, PARAMS, Revision
from pipeline.commands.ci.summary import Facts, Verdict
from pipeline.core import terminal
from pipeline.core.errors import PipelineError
from pipeline.experiments import predictions
from pipeline.experiments.sync import sync

TEST = Path("reports/test")


@dataclass(frozen=True)
class SummaryOptions:
    """How the result is told."""

    against: str
    """The revision whose model it is held to."""
    file: Path | None
    artifact: str | None
    fail_if_worse: bool


def run(asked: Overrides, telling: SummaryOptions) -> None:
    """Pull, run, push, tell.

    Raises:
        PipelineError: a stage fails, the remote does not take the result, or the model is worse
            where that is to fail.
    """
    head = revisions.head()
    asked.check(Path(PARAMS))  # refuses what every stage would refuse
    check(asked, head)
    against, problem = _against(telling)

    # 1. What others computed.
    remote = dvc_steps.remote()
    pulled = remote is not None and dvc_steps.pull()
    if remote is not None and not pulled:
        terminal.warn(f"{remote} fails, what is missing is computed (what DVC said is above)")
    if not pulled:
        dvc_steps.checkout()

    # 2. What is left to do.
    stages = dvc_steps.reproduce(asked, pulling=pulled)
    print(f"ci: {stages.told()}")

    # 3. For the others.
    pushed = remote is not None and dvc_steps.push()
    shared = _shared(remote, pulled, pushed)
    print(f"ci: {shared}")

    # 4. What it came to.
    facts = Facts(
        asked,
        head,
        revisions.changed(),
        stages,
        remote,
        shared,
        against,
        problem,
        summary.params_now(),
        json.loads(Path(METRICS).read_text("utf-8")),
        telling.artifact,
    )
    verdict = tell(facts, telling.file)
    # 5. A result that was restored has made no run on the way.
    _record()
    if problems := _problems(remote if not pushed else None, verdict, telling):
        raise PipelineError("; ".join(problems))


def _problems(silent: str | None, verdict: Verdict, telling: SummaryOptions) -> list[str]:
    """What is to make it fail; `silent` is a remote that did not take the result."""
    problems = []
    if silent is not None:
        problems.append(
            f"the result is here, but {silent} did not take it: `dvc push --run-cache` once it can "
            "be reached (what DVC said is above)"
        )
    if telling.fail_if_worse and (verdict.comparison is None or verdict.comparison.worse):
        problems.append(verdict.told)
    return problems


def _record() -> None:
    """Make MLflow hold what DVC holds; a server that is away is a warning."""
    try:
        for each in sync(here=True):
            print(f"ci: MLflow's run of {each.name}: {each.made or each.problem}")
    except PipelineError as error:
        terminal.warn(f"{error}; `pipeline sync` records the result later")


def check(asked: Overrides, head: Revision) -> None:
    """A result is the commit's with what was asked: nothing else may be set.

    Raises:
        PipelineError: params.yaml holds something else.
    """
    foreign = asked.foreign(head.params(), summary.params_now())
    if foreign:
        raise PipelineError(
            f"{PARAMS} is not the commit's ({', '.join(foreign[:5])}), as an earlier experiment "
            "leaves it: commit it, ask for these by "
            f"-S, or bring the defaults back with `touch {PARAMS} && git checkout HEAD -- {PARAMS}`"
        )


def tell(facts: Facts, file: Path | None) -> Verdict:
    """Write the summary; print and return the verdict."""
    verdict = summary.judged(facts.against, facts.problem, TEST)
    text = summary.page(facts, verdict, predictions.find(str(TEST)))
    where = summary.write(text, file)
    if not where:
        summary.show(facts)
    rest = f"The summary is in {where}" if where else "--summary FILE has params and pictures, too"
    print(f"ci: {verdict.told} {rest}")
    return verdict


def _against(telling: SummaryOptions) -> tuple[Revision | None, str]:
    """The revision, or why there is none, which is told before the work."""
    try:
        return revisions.revision(telling.against), ""
    except PipelineError as error:
        if telling.fail_if_worse:
            raise
        terminal.warn(f"the result will be compared with nothing: {error}")
        return None, str(error)


def _shared(remote: str | None, pulled: bool, pushed: bool) -> str:
    if remote is None:
        return "no DVC remote: nothing is pulled or pushed"
    return f"{'pulled from' if pulled else 'nothing pulled from'} {remote}, " + (
        "pushed to it" if pushed else "nothing pushed to it"
    )
