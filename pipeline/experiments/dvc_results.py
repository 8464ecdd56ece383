"""What DVC holds: results that experiments, branches, tags and the workspace pin in dvc.lock."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.core import dvc_lock, project
from pipeline.core.dvc_lock import Lock
from pipeline.core.errors import PipelineError
from pipeline.core.git import git, text_at
from pipeline.params import parse_params
from pipeline.tracking import provenance

MODELS, TEST, METRICS = "models", "reports/test", "reports/metrics.json"
WORKSPACE = "workspace"
JUDGED = ("train", "evaluate")
NEEDED = {provenance.DATASET, "dataset.source"}  # of the params, to restore a result
DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")
# DVC's own: refs/exps/<baseline, as ab/cdef...>/<name>; others below refs/exps are its scratch.
EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


@dataclass(frozen=True)
class DvcResult:
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
    values: Mapping[str, object]
    """What its stages ran with, by dotted name; it may be of another version's params."""

    @property
    def models(self) -> str:
        return dvc_lock.outs(self.lock, "train")[MODELS]

    @property
    def test(self) -> str:
        return dvc_lock.outs(self.lock, "evaluate")[TEST]

    def like(self, other: "DvcResult") -> bool:
        """Whether it is the same result, whoever holds it."""
        mine, theirs = (self.models, self.test), (other.models, other.test)
        return mine == theirs and self.values == other.values

    @property
    def named(self) -> tuple[str, str]:
        """What tells an experiment from others with its result; of all commits it is the same."""
        return (self.experiment, self.commit) if self.experiment else ("", "")

    @cached_property
    def changes(self) -> str:
        """What its code has that `commit` has not, as a patch."""
        if self.revision == self.commit:
            return ""
        return provenance.read_patch(self.commit, self.revision)

    @property
    def accuracy(self) -> float | None:
        """As metrics.json has it, which is in git."""
        text = text_at(self.revision, METRICS) if self.revision else _text(METRICS)
        try:
            return float(json.loads(text or "{}")["accuracy"])
        except (ValueError, KeyError, TypeError):
            return None


def dvc_results(everything: bool = False) -> list[DvcResult]:
    """All of them, the newest first; the same result of one commit is told once.

    Args:
        everything: Whether to look at all commits, and not only at branches and tags.
    """
    found: list[DvcResult] = []
    for held in _listed(everything):
        alike = [other for other in found if held.like(other)]
        # What the workspace holds has no name of its own.
        if not alike or (held.label != WORKSPACE and held.named not in {o.named for o in alike}):
            found.append(held)
    return sorted(found, key=lambda held: -held.when)


def workspace() -> DvcResult | None:
    """What the working directory holds, if it is a whole result."""
    return _held(WORKSPACE, "", git("rev-parse", "HEAD").strip(), "")


def pinned(models: str) -> Iterator[DvcResult]:
    """What commits hold that brought in a model, the first of them first.

    Args:
        models: DVC's digest of it, as far as a server knows.
    """
    if not DIGEST.fullmatch(models):
        return
    log = git("log", "--all", "--reverse", "--format=%H", f"-S{models}", "--", "dvc.lock")
    for commit in log.split():
        held = _held(commit[:7], "", commit, commit)
        if held is not None and held.models == models:
            yield held


def _listed(everything: bool) -> Iterator[DvcResult]:
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
        "for-each-ref",
        "refs/exps",
        "refs/heads",
        "refs/tags",
        "--format=%(refname)%09%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)",
    )
    for line in listed.splitlines():
        reference, revision = line.split("\t")
        matched = EXPERIMENT.fullmatch(reference)
        if matched:
            yield matched[3], matched[3], matched[1] + matched[2], revision
        elif not reference.startswith("refs/exps/"):
            yield reference.split("/", 2)[2], "", revision, revision


def _held(label: str, experiment: str, commit: str, revision: str) -> DvcResult | None:
    """The result of a revision, if it has a whole one."""
    text = text_at(revision, "dvc.lock") if revision else _text("dvc.lock")
    try:
        lock = dvc_lock.parse((text or "").encode("utf-8", "replace"))
    except PipelineError:
        return None
    values = _values(sections(lock))
    whole = {MODELS, TEST} <= _made(lock).keys() and _fits(lock)
    if not whole or not values.keys() >= NEEDED:
        return None
    when = int(git("show", "-s", "--format=%ct", revision or "HEAD")) * 1000
    return DvcResult(label, experiment, commit, revision, when, lock, values)


def _values(read: Mapping[str, Any]) -> dict[str, object]:
    """Params by dotted name, as runs have them; those of another version as they were written."""
    try:
        return parse_params(read).flat()
    except PipelineError:
        return {
            f"{section}.{key}": value
            for section, values in read.items()
            if isinstance(values, Mapping)
            for key, value in values.items()
        }


def _made(lock: Lock) -> dict[str, str]:
    return {path: md5 for stage in lock for path, md5 in dvc_lock.outs(lock, stage).items()}


def _fits(lock: Lock) -> bool:
    """Whether the model and its test are of the data that the lock has.

    They are not where only some stages ran again, as after `dvc repro features`.
    """
    made = _made(lock)
    return all(
        made.get(path, md5) == md5
        for stage in ("split", "features", "train", "evaluate")
        for path, md5 in dvc_lock.deps(lock, stage).items()
    )


def sections(lock: Lock) -> dict[str, Any]:
    """The params that the stages of a lock ran with, together; of a section, train's and evaluate's
    word counts."""
    order = [*sorted(lock.keys() - set(JUDGED)), *JUDGED]
    return {key: value for stage in order for key, value in dvc_lock.params(lock, stage).items()}


def _text(path: str) -> str | None:
    file = project.root() / path
    return file.read_text("utf-8", "replace") if file.exists() else None
