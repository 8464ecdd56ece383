"""Stages whose results in dvc.lock are not of the params, data and code beside it.

`dvc repro STAGE`, `dvc exp run STAGE`, a lock merged by hand and a commit of code alone leave such
results: they are of an earlier state, so they must not be recorded as those of this one.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core import dvc_lock
from pipeline.core.dvc_lock import Lock
from pipeline.core.git import read_blobs, text_at, try_git
from pipeline.tracking.provenance import PARAMS, SOURCES

CODE, DATASETS = "pipeline", "datasets"
FIRST_STAGE = "acquire"  # the only stage that reads what is neither in git nor made by a stage
CHECK = "check"  # its out is constant, so nothing is made from what it read
TRACKED_PATHS = (*SOURCES, "reports")  # where git has deps and outs of stages


@dataclass(frozen=True)
class ProjectState:
    """What a dvc.lock is compared with: a commit, or the working directory."""

    params: Mapping[str, Any]
    """The sections of params.yaml; empty where it cannot be read."""
    files: Mapping[str, str]
    """Digests of the files that git has, by path."""

    def digest(self, path: str) -> str | None:
        """DVC's digest of a file or folder; None where git has nothing there."""
        if path in self.files:
            return self.files[path]
        folder = f"{path}/"
        below = {
            name.removeprefix(folder): md5
            for name, md5 in self.files.items()
            if name.startswith(folder)
        }
        return dvc_lock.folder_digest(below) if below else None


def state_of_commit(commit: str) -> ProjectState:
    """The params and files of a commit."""
    listing = try_git("ls-tree", "-r", "-z", commit, "--", *TRACKED_PATHS) or ""
    blobs = {}
    for entry in filter(None, listing.split("\0")):
        facts, path = entry.split("\t", 1)
        _, kind, key = facts.split()
        if kind == "blob":  # and no submodule
            blobs[path] = key
    md5s = _digests(set(blobs.values()))
    files = {path: md5s[key] for path, key in blobs.items()}
    return ProjectState(_parse_params(text_at(commit, PARAMS)), files)


def state_of_workspace() -> ProjectState:
    """The params and files of the working directory, without the files that git ignores."""
    options = ("--cached", "--others", "--exclude-standard", "-z")
    listing = try_git("ls-files", *options, "--", *TRACKED_PATHS) or ""
    paths = {path for path in listing.split("\0") if path and Path(path).is_file()}
    params = Path(PARAMS)
    text = params.read_text("utf-8", "replace") if params.exists() else None
    return ProjectState(_parse_params(text), {path: dvc_lock.digest(Path(path)) for path in paths})


def stale_stages(lock: Lock, state: ProjectState, last: str = "evaluate") -> list[str]:
    """The stages that `last` is made from, itself included, whose results are not of `state`.

    Returns:
        In the order of the lock; [] where all belong together, or `last` never ran.
    """
    makers = {path: stage for stage in lock for path in dvc_lock.outs(lock, stage)}
    upstream = {
        stage: {makers[path] for path in dvc_lock.deps(lock, stage) if path in makers}
        for stage in lock
    }
    changed = {
        stage for stage in lock if stage != CHECK and _is_changed(lock, stage, makers, state)
    }
    downstream = {stage: {other for other in lock if stage in upstream[other]} for stage in lock}
    stale = _reach(changed, downstream) & _reach({last} & lock.keys(), upstream)
    return [stage for stage in lock if stage in stale]


def describe(stages: Sequence[str]) -> str:
    """Such as "stages behind: train, evaluate"."""
    return f"stages behind: {', '.join(stages)}"


def _reach(stages: Iterable[str], neighbours: Mapping[str, set[str]]) -> set[str]:
    """`stages`, and all that can be reached from them."""
    reached, pending = set[str](), set(stages)
    while pending:
        reached |= pending
        pending = {other for stage in pending for other in neighbours[stage]} - reached
    return reached


def _is_changed(lock: Lock, stage: str, makers: Mapping[str, str], state: ProjectState) -> bool:
    """Whether the lock's deps, params or outs of a stage are others than those of now."""
    for path, md5 in dvc_lock.deps(lock, stage).items():
        if _current(lock, stage, path, makers.get(path), state) not in (None, md5):
            return True
    outs, sections = dvc_lock.outs(lock, stage), dvc_lock.params(lock, stage)
    return any(state.digest(path) not in (None, md5) for path, md5 in outs.items()) or (
        bool(state.params)
        and any(_lookup(state.params, name) != value for name, value in sections.items())
    )


def _current(
    lock: Lock, stage: str, path: str, maker: str | None, state: ProjectState
) -> str | None:
    """The digest that a dep of a stage has now; None if it is unknown, "" if the dep is gone.

    Args:
        maker: The stage that the dep is an out of.
    """
    top = path.split("/")[0]
    if maker is not None:
        return dvc_lock.outs(lock, maker)[path]
    if top == CODE:
        return state.digest(path) or ("" if state.files else None)
    if top in SOURCES:
        # As dataset.source, the whole folder says nothing: the data set's own folder is a dep too.
        return None if path == DATASETS else state.digest(path)
    return None if stage == FIRST_STAGE else ""


def _lookup(params: Mapping[str, Any], name: str) -> object:
    """The value of a section, or of a key such as train.lr, which older versions recorded."""
    value: object = params
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _parse_params(text: str | None) -> Mapping[str, Any]:
    try:
        sections = YAML(typ="safe", pure=True).load(text or "")
    except (YAMLError, ValueError, RecursionError):
        return {}
    return sections if isinstance(sections, Mapping) else {}


_known_digests: dict[str, str] = {}


def _digests(ids: set[str]) -> Mapping[str, str]:
    """The md5 digests of git's blobs by id; commits share most of them."""
    unknown = sorted(ids - _known_digests.keys())
    for key, content in zip(unknown, read_blobs(unknown), strict=True):
        _known_digests[key] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return _known_digests
