"""A run made again from its id, and held to what came of it the first time."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.commands.reproduce import clone
from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of
from pipeline.core.terminal import printable
from pipeline.experiments import dvc_results, paired_runs
from pipeline.experiments.dvc_results import METRICS, MODELS, TEST, DvcResult
from pipeline.params import DatasetParams
from pipeline.tracking import provenance, store
from pipeline.tracking.store import MlflowRun

FIGURES = ("accuracy", "loss")
MIN_ID_LENGTH = 4  # characters of a run's id


@dataclass(frozen=True)
class Stage:
    """One stage, made again."""

    name: str
    ran: bool
    """Or else what it made was restored."""
    same: Sequence[str]
    """Outputs with the bytes that the run had."""
    others: Sequence[str]
    """Outputs with other bytes."""

    def row(self) -> list[str]:
        how = "computed" if self.ran else "restored"
        return [self.name, how, ", ".join(self.same), ", ".join(self.others)]


@dataclass(frozen=True)
class Reproduction:
    """What came of it."""

    run_id: str
    stages: Sequence[Stage]
    """In their order, those of which the run has digests."""
    figures: Mapping[str, tuple[float, float]]
    """Of the test set: then, and now."""
    tolerance: float
    unknown: Sequence[str] = ()
    """Outputs that the run has no digest of."""

    @property
    def identical(self) -> bool:
        return not any(stage.others for stage in self.stages)

    @property
    def equal(self) -> bool:
        """Whether the figures are within the tolerance."""
        return bool(self.figures) and all(
            abs(now - then) <= self.tolerance for then, now in self.figures.values()
        )

    def verdict(self) -> str:
        """In one sentence."""
        told = ", ".join(
            f"{name} {then:.4f} then and {now:.4f} now"
            for name, (then, now) in self.figures.items()
        )
        if self.identical:
            count = sum(len(stage.same) for stage in self.stages)
            return f"identical: all {count} outputs have the same bytes ({told}){self._not_held()}"
        first = next(stage for stage in self.stages if stage.others)
        where = f"the first stage that differs is {first.name} ({', '.join(first.others)})"
        if self.equal:
            return f"equal within {self.tolerance:g}: {told}; {where}"
        return f"different: {told or 'it has no figures'}; {where}"

    def _not_held(self) -> str:
        return f"; of {', '.join(self.unknown)} it has no digest" if self.unknown else ""


def find(name: str) -> MlflowRun:
    """A run by its id, the beginning of it, or its name (then the newest).

    Raises:
        PipelineError: there is none, there are several, or it is none of a training.
    """
    with store.errors_as_sentences():
        runs = store.search_runs(f"tags.`{provenance.FINGERPRINT}` != ''") if store.exists() else []
    named = [run for run in runs if run.info.run_name == name]
    if named:
        return named[0]
    if len(name) < MIN_ID_LENGTH:
        raise PipelineError(
            f"{name!r} is too short for a run's id: give {MIN_ID_LENGTH} characters"
        )
    found = [run for run in runs if run.info.run_id.startswith(name.lower())]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(run.info.run_id[:12] for run in found[:5])
    how_many = f"several ids begin with {name} ({ids})" if found else f"no training is {name}"
    raise PipelineError(f"{how_many} at {store.address()}: `pipeline runs` lists them")


@dataclass(frozen=True)
class ReproduceRequest:
    """How a run is to be made again."""

    again: str = ""
    """The stage from which on everything is computed, though it may be known; "" for none."""
    tolerance: float = 0.01
    """Of accuracy and loss."""
    changes: bool = False
    """Whether code that only the run's own artifacts have may run here."""


def reproduce(run: MlflowRun, folder: Path, wanted: ReproduceRequest) -> Reproduction:
    """Make a run again in `folder`, which is replaced.

    Raises:
        PipelineError: its commit or its files are not to be had, or DVC fails.
    """
    digests = _prepare(run, folder, wanted.changes)
    stages = list(YAML(typ="safe", pure=True).load(folder / "dvc.yaml")["stages"])
    if wanted.again and wanted.again not in stages:
        raise PipelineError(f"there is no stage {wanted.again}: {', '.join(stages)}")
    clone.fill(folder)
    here = (folder / _source(folder)).exists()
    # Photographs that only the first machine had are not missed where what came of them is known.
    ran = clone.run(folder, "repro", *(() if here else ("--allow-missing",)))
    _check(folder)
    later = stages[stages.index(wanted.again) :] if wanted.again else []
    if not set(later) - {"describe"} <= set(ran):
        anew = ("--force", "--no-run-cache", "--downstream", wanted.again)
        ran += clone.run(folder, "repro", *anew)
    return compared(run, digests, folder, ran, wanted.tolerance)


def _prepare(run: MlflowRun, folder: Path, trusted: bool) -> dict[str, str]:
    """Lay out the commit, params and code of a run; return the digests that it had, by tag."""
    tags, short = run.data.tags, run.info.run_id[:8]
    if provenance.MODELS not in tags:
        raise PipelineError(f"run {short} ended before it had a model: nothing can be compared")
    # What git did not know then, no commit has: it is in the run's patch alone.
    known = None if tags.get("git.untracked") else _pinned(run)
    if known is not None:
        clone.check_out(folder, known.revision)
        clone.lend(folder, str(known.values["dataset.source"]))
        return provenance.digest_tags(known.lock, list(known.lock)) | tags
    if tags.get(provenance.CHANGED) == provenance.TOO_MUCH:
        raise PipelineError(
            f"run {short} had more changes to its code than are kept: its commit alone is not it"
        )
    commit = tags.get(provenance.COMMIT, "")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or not commit_of(commit):
        raise PipelineError(
            f"commit {printable(commit) or 'unknown'} of run {short} is not here: git fetch "
            "it, or ask whoever made the run (env.host is "
            f"{printable(tags.get('env.host', 'unknown'))})"
        )
    texts = {name: _text(run, name) for name in (provenance.PARAMS, provenance.LOCK)}
    changes = _text(run, provenance.CHANGES) if tags.get(provenance.CHANGED) == "yes" else ""
    if changes and not trusted:
        raise PipelineError(
            f"the code of run {short} has {len(changes.splitlines())} lines of changes that no "
            f"commit here has ({provenance.FOLDER}/{provenance.CHANGES}): read them, and allow "
            "them to run with --with-changes"
        )
    clone.check_out(folder, commit)
    clone.write(folder, {name: text for name, text in texts.items() if text}, changes)
    clone.lend(folder, _source(folder))
    return dict(tags)


def _pinned(run: MlflowRun) -> DvcResult | None:
    """The experiment or commit that holds what the run came to, params and all."""
    tags = run.data.tags
    for each in chain(dvc_results.dvc_results(), dvc_results.pinned(tags[provenance.MODELS])):
        same = each.test == tags.get(provenance.TEST, each.test)
        if each.revision and same and paired_runs.of(each, run):
            return each
    return None


def _source(folder: Path) -> str:
    """Where the images are, by params that may be of another version than ours.

    Raises:
        PipelineError: there are no such params.
    """
    try:
        dataset = YAML(typ="safe", pure=True).load(folder / provenance.PARAMS)["dataset"]
        return str(DatasetParams.model_validate(dataset).source)
    except (OSError, YAMLError, KeyError, TypeError, ValidationError) as error:
        raise PipelineError(f"{provenance.PARAMS} of the run names no data set") from error


def _check(folder: Path) -> None:
    absent = [path for path in (MODELS, TEST) if not (folder / path).exists()]
    if absent:
        raise PipelineError(
            f"{' and '.join(absent)} of the run are neither in DVC's cache nor in its remote, and "
            "the images that it was made of are not here: ask whoever made it to `dvc push`"
        )


def _text(run: MlflowRun, name: str) -> str:
    return store.load_text(run.info.run_id, f"{provenance.FOLDER}/{name}")


def compared(
    run: MlflowRun, digests: Mapping[str, str], folder: Path, ran: Sequence[str], tolerance: float
) -> Reproduction:
    """Hold what stands in `folder` to what `run` had: its figures, and `digests` by tag."""
    lock = dvc_lock.read(folder / "dvc.lock")
    stages, unknown = list[Stage](), list[str]()
    for name in YAML(typ="safe", pure=True).load(folder / "dvc.yaml")["stages"]:
        outs = dvc_lock.outs(lock, name)
        wanted = {path: digests.get(provenance.digest_tag(path)) for path in outs}
        here = {path: md5 for path, md5 in outs.items() if (folder / path).exists()}
        same = [path for path, md5 in here.items() if wanted[path] == md5]
        others = [path for path, md5 in here.items() if wanted[path] not in (None, md5)]
        unknown += [path for path in here if wanted[path] is None]
        if same or others:
            stages.append(Stage(name, name in ran, same, others))
    now = json.loads((folder / METRICS).read_text())
    figures = {
        name: (run.data.metrics[f"test/{name}"], float(now[name]))
        for name in FIGURES
        if f"test/{name}" in run.data.metrics and isinstance(now.get(name), int | float)
    }
    return Reproduction(run.info.run_id, stages, figures, tolerance, unknown)


def note(found: Reproduction) -> None:
    """Tell the run that it was made again."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    computed = [stage.name for stage in found.stages if stage.ran]
    how = f"computed {', '.join(computed)}" if computed else "restored"
    store.set_tag(found.run_id, "reproduced", f"{day}, {how}: {found.verdict()}")
