"""A run made again from its id, and held to what came of it the first time."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ruamel.yaml import YAML

from pipeline import locked, params, project
from pipeline.errors import PipelineError
from pipeline.experiments import aside, held
from pipeline.experiments.git import knows
from pipeline.experiments.held import METRICS, MODELS, TEST
from pipeline.tracking import origin, store
from pipeline.tracking.store import Known

FIGURES = ("accuracy", "loss")
SHORTEST = 4  # characters of a run's id


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
class Reproduced:
    """What came of it."""

    run_id: str
    stages: Sequence[Stage]
    """In their order, those of which the run has digests."""
    figures: Mapping[str, tuple[float, float]]
    """Of the test set: then, and now."""
    tolerance: float

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
            f"{name} {then:.4f} then and {now:.4f} now" for name, (then, now) in
            self.figures.items()
        )  # fmt: skip
        if self.identical:
            count = sum(len(stage.same) for stage in self.stages)
            return f"identical: all {count} outputs have the same bytes ({told})"
        first = next(stage for stage in self.stages if stage.others)
        where = f"the first stage that differs is {first.name} ({', '.join(first.others)})"
        if self.equal:
            return f"equal within {self.tolerance:g}: {told}; {where}"
        return f"different: {told or 'it has no figures'}; {where}"


def find(name: str) -> Known:
    """A run by its id, or the beginning of it.

    Raises:
        PipelineError: there is none, there are several, or it is none of a training.
    """
    with store.reached():
        runs = store.runs(f"tags.`{origin.FINGERPRINT}` != ''") if store.exists() else []
    found = [run for run in runs if run.info.run_id.startswith(name)]
    if len(found) == 1 and len(name) >= SHORTEST:
        return found[0]
    how_many = "several runs" if found else "no run"
    raise PipelineError(
        f"{how_many} of {store.address()} have an id that begins with {name}: `pipeline runs` "
        "lists them"
    )


def reproduce(run: Known, folder: Path, again: str, tolerance: float) -> Reproduced:
    """Make a run again in `folder`, which is replaced.

    Args:
        again: The stage from which on everything is computed, though it may be known; "" for none.

    Raises:
        PipelineError: its commit or its files are not to be had, or DVC fails.
    """
    wanted = _prepare(run, folder)
    if aside.has_remote(folder):
        aside.dvc(folder, "pull", "--allow-missing", "--run-cache")
    else:
        aside.dvc(folder, "checkout", "--allow-missing")
    here = (folder / params.load(folder / origin.PARAMS).dataset.source).exists()
    # Photographs that only the first machine had are not missed where what came of them is known.
    ran = aside.dvc(folder, "repro", *(() if here else ("--allow-missing",)))
    _check(folder)
    if again and again not in ran:
        ran += aside.dvc(folder, "repro", "--force", "--no-run-cache", "--downstream", again)
    return compared(run, wanted, folder, ran, tolerance)


def _prepare(run: Known, folder: Path) -> dict[str, str]:
    """Lay out the commit, params and code of a run; return the digests that it had, by tag."""
    tags = run.data.tags
    known = held.of_run(tags.get(origin.MODELS, ""), tags.get(origin.EXPERIMENT, ""))
    if known is not None:
        aside.check_out(folder, known.revision)
        aside.lend(folder, known.settings.dataset.source)
        return origin.outs(known.lock, list(known.lock)) | tags
    commit = tags.get(origin.COMMIT, "")
    if not knows(commit):
        raise PipelineError(
            f"commit {commit or 'unknown'} of run {run.info.run_id[:8]} is not here: git fetch it, "
            "or ask whoever made the run (env.host is "
            f"{tags.get('env.host', 'unknown')})"
        )
    texts = {name: _text(run, name) for name in (origin.PARAMS, origin.LOCK)}
    changes = _text(run, origin.CHANGES) if tags.get("git.changed") == "yes" else ""
    aside.check_out(folder, commit)
    aside.write(folder, {name: text for name, text in texts.items() if text}, changes)
    aside.lend(folder, params.load(folder / origin.PARAMS).dataset.source)
    return dict(tags)


def _check(folder: Path) -> None:
    absent = [path for path in (MODELS, TEST) if not (folder / path).exists()]
    if absent:
        raise PipelineError(
            f"{' and '.join(absent)} of the run are neither in DVC's cache nor in its remote, and "
            "the images that it was made of are not here: ask whoever made it to `dvc push`"
        )


def _text(run: Known, name: str) -> str:
    return store.fetch(run.info.run_id, f"{origin.FOLDER}/{name}")


def compared(
    run: Known, digests: Mapping[str, str], folder: Path, ran: Sequence[str], tolerance: float
) -> Reproduced:
    """Hold what stands in `folder` to what `run` had: its figures, and `digests` by tag."""
    lock = locked.read(folder / "dvc.lock")
    stages = []
    for name in YAML(typ="safe", pure=True).load(folder / "dvc.yaml")["stages"]:
        outs = locked.outs(lock, name)
        wanted = {path: digests.get(origin.tag(path)) for path in outs}
        here = {path: md5 for path, md5 in outs.items() if (folder / path).exists()}
        same = [path for path, md5 in here.items() if wanted[path] == md5]
        others = [path for path, md5 in here.items() if wanted[path] not in (None, md5)]
        if same or others:
            stages.append(Stage(name, name in ran, same, others))
    now = json.loads((folder / METRICS).read_text())
    figures = {
        name: (run.data.metrics[f"test/{name}"], float(now[name]))
        for name in FIGURES if f"test/{name}" in run.data.metrics
    }  # fmt: skip
    return Reproduced(run.info.run_id, stages, figures, tolerance)


def note(found: Reproduced) -> None:
    """Tell the run that it was made again."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    computed = [stage.name for stage in found.stages if stage.ran]
    how = f"computed {', '.join(computed)}" if computed else "restored"
    store.tag(found.run_id, "reproduced", f"{day}, {how}: {found.verdict()}")


def place(run: Known) -> Path:
    """Where a run is made again."""
    return project.cache() / "reproduce" / str(run.info.run_id)[:12]
