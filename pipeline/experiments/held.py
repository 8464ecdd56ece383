"""What DVC holds: results that experiments, branches, tags and the workspace pin in dvc.lock."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline import locked, params, project
from pipeline.errors import PipelineError
from pipeline.experiments.git import git, text_at
from pipeline.locked import Lock
from pipeline.params import Params

MODELS, TEST, METRICS = "models", "reports/test", "reports/metrics.json"
WORKSPACE = "workspace"
# DVC's own: refs/exps/<baseline, as ab/cdef...>/<name>; others below refs/exps are its scratch.
EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


@dataclass(frozen=True)
class Held:
    """One result: a trained and tested model, and what it was made with."""

    label: str
    """What people call it: an experiment, a branch, a tag."""
    experiment: str
    """Its name, "" where it is none."""
    commit: str
    """The baseline of an experiment, else the commit itself."""
    revision: str
    """The commit that has its dvc.lock, "" for the workspace."""
    when: int
    """Time of the commit, in ms since 1970."""
    lock: Lock
    settings: Params
    """What its stages ran with."""

    @property
    def models(self) -> str:
        return locked.outs(self.lock, "train")[MODELS]

    @property
    def test(self) -> str:
        return locked.outs(self.lock, "evaluate")[TEST]

    def like(self, other: "Held") -> bool:
        """Whether it is the same result, whoever holds it."""
        mine, theirs = (self.models, self.test), (other.models, other.test)
        return mine == theirs and self.settings == other.settings

    @property
    def accuracy(self) -> float | None:
        """As metrics.json has it, which is in git."""
        text = text_at(self.revision, METRICS) if self.revision else _text(METRICS)
        try:
            return float(json.loads(text or "{}")["accuracy"])
        except (ValueError, KeyError, TypeError):
            return None


def results(everything: bool = False) -> list[Held]:
    """All of them, the newest first; the same result of one commit is told once.

    Args:
        everything: Whether to look at all commits, and not only at branches and tags.
    """
    found: dict[tuple[str, str], Held] = {}
    for held in sorted(_listed(everything), key=lambda held: -held.when):
        found.setdefault((held.experiment, held.models + held.test), held)
    return list(found.values())


def pinned(models: str) -> Held | None:
    """What the first commit to have a model holds, whichever commit that is.

    Args:
        models: DVC's digest of it.
    """
    log = git("log", "--all", "--reverse", "--format=%H", f"-S{models}", "--", "dvc.lock")
    for commit in log.split():
        held = _held(commit[:7], "", commit, commit)
        if held is not None and held.models == models:
            return held
    return None


def of_run(models: str, experiment: str) -> Held | None:
    """The commit that pins a run's result: its experiment's, or the first that has the model."""
    for held in results() if experiment else ():
        if held.experiment == experiment and held.models == models:
            return held
    return pinned(models) if models else None


def _listed(everything: bool) -> Iterator[Held]:
    """Branches before tags before the rest: the first to hold a result gives it its name."""
    head = git("rev-parse", "HEAD").strip()
    places = [*_references(), ("HEAD", "", head, head), (WORKSPACE, "", head, "")]
    if everything:
        log = git("log", "--all", "--format=%H", "--", "dvc.lock").split()
        places += [(commit[:7], "", commit, commit) for commit in log]
    for place in places:
        if held := _held(*place):
            yield held


def _references() -> Iterator[tuple[str, str, str, str]]:
    """Label, experiment, its baseline, and the commit, of experiments, branches and tags."""
    listed = git(
        "for-each-ref", "refs/exps", "refs/heads", "refs/tags",
        "--format=%(refname)%09%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)",
    )  # fmt: skip
    for line in listed.splitlines():
        reference, revision = line.split("\t")
        matched = EXPERIMENT.fullmatch(reference)
        if matched:
            yield matched[3], matched[3], matched[1] + matched[2], revision
        elif not reference.startswith("refs/exps/"):
            yield reference.split("/", 2)[2], "", revision, revision


def _held(label: str, experiment: str, commit: str, revision: str) -> Held | None:
    """The result of a revision, if it has a whole one, of this version of the params."""
    text = text_at(revision, "dvc.lock") if revision else _text("dvc.lock")
    try:
        lock = locked.parse(locked.without_code((text or "").encode("utf-8", "replace")))
        settings = params.parse(sections(lock))
    except PipelineError:
        return None
    outs = locked.outs(lock, "train") | locked.outs(lock, "evaluate")
    tested = locked.deps(lock, "evaluate").get(MODELS)
    if not {MODELS, TEST} <= outs.keys() or tested != outs[MODELS]:
        return None
    when = int(git("show", "-s", "--format=%ct", revision or "HEAD")) * 1000
    return Held(label, experiment, commit, revision, when, lock, settings)


def sections(lock: Lock) -> dict[str, Any]:
    """The params that the stages of a lock ran with, together."""
    return {key: value for stage in lock for key, value in locked.params(lock, stage).items()}


def _text(path: str) -> str | None:
    file = project.root() / path
    return file.read_text("utf-8", "replace") if file.exists() else None
