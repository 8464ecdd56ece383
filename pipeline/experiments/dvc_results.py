"""Results recorded in dvc.lock files: of experiments, branches, tags and the workspace."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.core import dvc_lock, file_digests, project, terminal
from pipeline.core.dvc_lock import Lock
from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of, git, text_at
from pipeline.experiments import metrics_json
from pipeline.params import parse_params
from pipeline.tracking import provenance
from pipeline.tracking.stale_stages import (
    ProjectState,
    stale_stages,
    state_of_commit,
    state_of_workspace,
)

MODELS, TEST, METRICS = "models", "reports/test", "reports/metrics.json"
WORKSPACE = "workspace"
LAST_STAGES = ("train", "evaluate")
REQUIRED_PARAMS = {provenance.DATASET, "dataset.source"}  # to restore a result
# DVC's own format: refs/exps/<baseline, as ab/cdef...>/<name>. Other refs below refs/exps are
# DVC's temporary ones.
EXPERIMENT_REF = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/(.+)")


class LockSource(NamedTuple):
    """Where a dvc.lock is read from; the fields are those of `DvcResult`."""

    label: str
    experiment: str
    commit: str
    revision: str


@dataclass(frozen=True)
class DvcResult:
    """A trained and evaluated model, and what it was made from."""

    label: str
    """Name of the experiment, branch or tag, or an abbreviated commit."""
    experiment: str
    """Name of the experiment, "" if it is none."""
    commit: str
    """The baseline of an experiment, else the commit itself."""
    revision: str
    """The commit that contains the dvc.lock, "" for the workspace."""
    time_ms: int
    """Time of the commit, in ms since 1970."""
    lock: Lock
    params: Mapping[str, object]
    """What its stages ran with, by dotted name; other versions may have other keys."""
    stale: Sequence[str] = ()
    """Stages whose results are of an earlier state: then it is not the result of `revision`."""

    @property
    def models_md5(self) -> str:
        return dvc_lock.outs(self.lock, "train")[MODELS]

    @property
    def test_md5(self) -> str:
        return dvc_lock.outs(self.lock, "evaluate")[TEST]

    @property
    def digest_tags(self) -> dict[str, str]:
        """The tags of a run that has all of it."""
        return {provenance.MODELS: self.models_md5, provenance.TEST: self.test_md5}

    def is_same_result(self, other: "DvcResult") -> bool:
        """Whether model, evaluation and params are equal, whatever the label and commit."""
        own, others = (self.models_md5, self.test_md5), (other.models_md5, other.test_md5)
        return own == others and self.params == other.params

    @property
    def identity(self) -> tuple[str, str]:
        """Experiment and baseline; the same for all commits, which need only one run together."""
        return (self.experiment, self.commit) if self.experiment else ("", "")

    @cached_property
    def changes(self) -> str:
        """Changes of the code since `commit`, as a patch."""
        return (
            ""
            if self.revision == self.commit
            else provenance.read_patch(self.commit, self.revision)
        )

    @property
    def accuracy(self) -> float | None:
        """From metrics.json, which git tracks."""
        text = text_at(self.revision, METRICS) if self.revision else _read_workspace(METRICS)
        try:
            return metrics_json.parse(text or "{}").get("accuracy")
        except ValueError:
            return None


def dvc_results(all_commits: bool = False) -> list[DvcResult]:
    """All results, the newest first; the same result of several commits is listed once.

    Args:
        all_commits: Whether to search all commits, and not only branches and tags.
    """
    return [result for result in all_results(all_commits) if not result.stale]


def all_results(all_commits: bool = False) -> list[DvcResult]:
    """The same, with the results of an earlier state that experiments, branches and tags have."""
    results: list[DvcResult] = []
    for result in _read_results(all_commits):
        same = [other for other in results if result.is_same_result(other)]
        if result.label != WORKSPACE:  # which has no name of its own
            same = [
                other
                for other in same
                if bool(other.stale) == bool(result.stale) and other.identity == result.identity
            ]
        if not same:
            results.append(result)
    return sorted(results, key=lambda result: -result.time_ms)


def workspace() -> DvcResult | None:
    """The result in the working directory, if it is complete."""
    return _read_result(LockSource(WORKSPACE, "", git("rev-parse", "HEAD").strip(), ""))


def stale_stages_at(revision: str) -> Sequence[str]:
    """The stages whose results at a revision are of an earlier state.

    Args:
        revision: A commit, branch, tag or experiment; "" for the workspace.
    """
    commit = revision and (commit_of(revision) or _find_experiment(revision))
    return [] if commit is None else stale_stages(_read_lock(commit), _read_state(commit))


def _find_experiment(name: str) -> str | None:
    return next((source.revision for source in _read_refs() if source.experiment == name), None)


def results_with_model(models_md5: str) -> Iterator[DvcResult]:
    """Results of the commits that introduced a model, the oldest first.

    Args:
        models_md5: DVC's digest of models/, as a tracking server gives it, so anything.
    """
    if not file_digests.is_md5(models_md5.removesuffix(".dir")):
        return
    log = git("log", "--all", "--reverse", "--format=%H", f"-S{models_md5}", "--", "dvc.lock")
    for commit in log.split():
        result = _read_result(LockSource(commit[:7], "", commit, commit))
        if result and not result.stale and result.models_md5 == models_md5:
            yield result


def _read_results(all_commits: bool) -> Iterator[DvcResult]:
    """Experiments, branches and tags before bare commits: the first gives a result its name."""
    head = git("rev-parse", "HEAD").strip()
    sources = [
        *_read_refs(),
        LockSource("HEAD", "", head, head),
        LockSource(WORKSPACE, "", head, ""),
    ]
    for source in sources:
        if result := _read_result(source):
            yield result
    if all_commits:
        for commit in git("log", "--all", "--format=%H", "--", "dvc.lock").split():
            result = _read_result(LockSource(commit[:7], "", commit, commit))
            if result and not result.stale:
                yield result


def _read_refs() -> Iterator[LockSource]:
    """Experiments, branches and tags."""
    listing = git(
        "for-each-ref",
        "refs/exps",
        "refs/heads",
        "refs/tags",
        "--format=%(refname)%09%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)",
    )
    for line in listing.splitlines():
        ref, revision = line.split("\t")
        if match := EXPERIMENT_REF.fullmatch(ref):
            yield LockSource(match[3], match[3], match[1] + match[2], revision)
        elif not ref.startswith("refs/exps/"):
            yield LockSource(ref.split("/", 2)[2], "", revision, revision)


def _read_result(source: LockSource) -> DvcResult | None:
    """The result in a source's dvc.lock, if it is complete."""
    lock = _read_lock(source.revision)
    params = _flat_params(locked_params(lock))
    if not ({MODELS, TEST} <= _outs(lock).keys() and params.keys() >= REQUIRED_PARAMS):
        return None
    time = int(git("show", "-s", "--format=%ct", source.revision or "HEAD"))
    stale = stale_stages(lock, _read_state(source.revision))
    return DvcResult(*source, 1000 * time, lock, params, stale)


def _read_lock(revision: str) -> Lock:
    """The dvc.lock of a revision; empty if it has none, or an invalid one."""
    text = text_at(revision, "dvc.lock") if revision else _read_workspace("dvc.lock")
    try:
        return dvc_lock.parse((text or "").encode("utf-8", "replace"))
    except PipelineError as error:
        if not revision:
            terminal.warn(f"{error}: `pipeline doctor` puts back the last good one")
        return {}


def _read_state(revision: str) -> ProjectState:
    return state_of_commit(revision) if revision else state_of_workspace()


def _flat_params(sections: Mapping[str, Any]) -> dict[str, object]:
    """Params by dotted name, as runs have them; params of another version as they were written."""
    try:
        return parse_params(sections).flat()
    except PipelineError:
        return {
            f"{name}.{key}": value
            for name, section in sections.items()
            if isinstance(section, Mapping)
            for key, value in section.items()
        }


def _outs(lock: Lock) -> dict[str, str]:
    return {path: md5 for stage in lock for path, md5 in dvc_lock.outs(lock, stage).items()}


def locked_params(lock: Lock) -> dict[str, Any]:
    """The params of all stages together, by section; where stages differ, those of evaluate, then
    those of train win."""
    stages = [*sorted(lock.keys() - set(LAST_STAGES)), *LAST_STAGES]
    return {
        name: section for stage in stages for name, section in dvc_lock.params(lock, stage).items()
    }


def _read_workspace(path: str) -> str | None:
    file = project.root() / path
    return file.read_text("utf-8", "replace") if file.exists() else None
