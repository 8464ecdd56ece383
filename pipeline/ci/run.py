"""The steps of `pipeline ci`."""

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline import predictions
from pipeline.ci import dvc, repository, summary
from pipeline.ci.asked import Asked
from pipeline.ci.repository import METRICS, PARAMS, Revision
from pipeline.ci.summary import Facts, Verdict
from pipeline.errors import PipelineError
from pipeline.experiments.sync import sync

TEST = Path("reports/test")


@dataclass(frozen=True)
class Telling:
    """How the result is told."""

    against: str
    """The revision whose model it is held to."""
    file: Path | None
    artifact: str | None
    fail_if_worse: bool


def run(asked: Asked, telling: Telling) -> None:
    """Pull, run, push, tell.

    Raises:
        PipelineError: a stage fails, the remote does not take the result, or the model is worse
            where that is to fail.
    """
    head = repository.head()
    check(asked, head)
    asked.check(Path(PARAMS))  # refuses what every stage would refuse

    # 1. What others computed.
    remote = dvc.remote()
    pulled = remote is not None and dvc.pull()
    if remote is not None and not pulled:
        print(f"warning: {remote} fails, what is missing is computed (what DVC said is above)")
    if not pulled:
        dvc.checkout()

    # 2. What is left to do.
    stages = dvc.reproduce(asked, pulling=pulled)
    print(f"ci: {stages.told()}")

    # 3. For the others.
    pushed = remote is not None and dvc.push()
    shared = _shared(remote, pulled, pushed)
    print(f"ci: {shared}")

    # 4. What it came to.
    verdict = tell(asked, head, stages, (remote, shared), telling)
    # 5. A result that was restored has made no run on the way.
    _record()
    problems = []
    if remote is not None and not pushed:
        problems.append(
            f"the result is here, but {remote} did not take it: `dvc push --run-cache` once it can "
            "be reached (what DVC said is above)"
        )
    if telling.fail_if_worse and (verdict.comparison is None or verdict.comparison.worse):
        problems.append(verdict.told)
    if problems:
        raise PipelineError("; ".join(problems))


def _record() -> None:
    """Make MLflow hold what DVC holds; a server that is away is a warning."""
    try:
        for each in sync(here=True):
            print(f"ci: MLflow's run of {each.name}: {each.made or each.problem}")
    except PipelineError as error:
        print(f"warning: {error}; `pipeline sync` records the result later")


def check(asked: Asked, head: Revision) -> None:
    """A result is the commit's with what was asked: nothing else may be set.

    Raises:
        PipelineError: params.yaml holds something else.
    """
    foreign = asked.foreign(head.params(), summary.params_now())
    if foreign:
        raise PipelineError(
            f"{PARAMS} is not the commit's ({', '.join(foreign[:5])}): commit it, ask for these by "
            f"-S, or bring the defaults back with `touch {PARAMS} && git checkout HEAD -- {PARAMS}`"
        )


def tell(
    asked: Asked, head: Revision, stages: dvc.Stages, remote: tuple[str | None, str],
    telling: Telling,
) -> Verdict:  # fmt: skip
    """Write the summary; print and return the verdict.

    Args:
        remote: Its name, and what became of pulling and pushing.
    """
    against, problem = _against(telling.against)
    verdict = summary.judged(against, problem, TEST)
    facts = Facts(
        asked, head, repository.changed(), stages, *remote, against, problem,
        summary.params_now(), json.loads(Path(METRICS).read_text("utf-8")), telling.artifact,
    )  # fmt: skip
    text = summary.page(facts, verdict, predictions.find(str(TEST)))
    where = summary.write(text, telling.file)
    if not where:
        summary.show(facts)
    rest = f"The summary is in {where}" if where else "--summary FILE has params and pictures, too"
    print(f"ci: {verdict.told} {rest}")
    return verdict


def _against(name: str) -> tuple[Revision | None, str]:
    try:
        return repository.revision(name), ""
    except PipelineError as error:
        return None, str(error)


def _shared(remote: str | None, pulled: bool, pushed: bool) -> str:
    if remote is None:
        return "no DVC remote: nothing is pulled or pushed"
    return f"{'pulled from' if pulled else 'nothing pulled from'} {remote}, " + (
        "pushed to it" if pushed else "nothing pushed to it"
    )
