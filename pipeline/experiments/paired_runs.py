"""DVC's results and MLflow's runs, brought together."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from pipeline.experiments import dvc_results
from pipeline.experiments.dvc_results import DvcResult
from pipeline.tracking import find_run, provenance, store
from pipeline.tracking.store import MlflowRun

LIVE = "RUNNING"
DIRTY = "-dirty"  # as git describes it
MAX_VALUES = 4  # that a row has room for


@dataclass(frozen=True)
class PairedRun:
    """A result of DVC's, and the run of it; one of them may be missing."""

    held: DvcResult | None
    run: MlflowRun | None

    @property
    def whole(self) -> bool:
        """Whether MLflow has all that DVC has."""
        return self.held is None or (
            self.run is not None and self.run.data.tags.get(provenance.TEST) == self.held.test
        )

    @property
    def name(self) -> str:
        if self.held is not None:
            return self.held.label
        return str(self.run.info.run_name) if self.run else ""

    @property
    def commit(self) -> str:
        """Of the code: an experiment's is the one that it is based on."""
        if self.held is not None:
            return self.held.commit
        return str(self.run.data.tags.get(provenance.COMMIT, "")) if self.run else ""

    @property
    def dirty(self) -> bool:
        """Whether its code has changes that the commit has not."""
        if self.held is not None:
            return bool(self.held.changes)
        return self.run is not None and self.run.data.tags.get(provenance.CHANGED, "no") != "no"

    def others(self, values: Mapping[str, object]) -> list[str]:
        """What it was made with and `values` has not, as -S takes it."""
        own = self.held.values if self.held else self.run.data.params if self.run else {}
        return [
            f"{key}={'null' if value in (None, 'None') else value}"
            for key, value in own.items()
            if key not in values or find_run.normalize(value) != find_run.normalize(values[key])
        ]

    @property
    def when(self) -> int:
        """In ms since 1970."""
        return int(self.run.info.start_time) if self.run else self.held.when if self.held else 0

    @property
    def accuracy(self) -> float | None:
        """Of the test set."""
        logged = self.run.data.metrics.get("test/accuracy") if self.run else None
        return logged if logged is not None or self.held is None else self.held.accuracy

    @property
    def status(self) -> str:
        return str(self.run.info.status).lower() if self.run else ""

    @cached_property
    def missing(self) -> str:
        """What the other side lacks: one of `ADVICE`, or nothing."""
        if self.run is None:
            return "run"
        if self.status == LIVE.lower():
            return ""
        if not self.whole:
            return "part of run"
        if self.held is None and provenance.MODELS not in self.run.data.tags:
            return "model"
        if self.held is None and not any(dvc_results.pinned(self.run.data.tags[provenance.MODELS])):
            return "commit"
        return ""

    def row(self, values: Mapping[str, object]) -> list[str]:
        """As `pipeline runs` shows it, held to the params that stand here."""
        accuracy = "" if self.accuracy is None else f"{self.accuracy:.4f}"
        run_id = self.run.info.run_id[:8] if self.run else ""
        others = self.others(values)
        more = [f"and {len(others) - MAX_VALUES} more"] if len(others) > MAX_VALUES else []
        return [
            self.name,
            self.commit[:7] + (DIRTY if self.dirty else ""),
            run_id,
            self.status,
            _day(self.when),
            accuracy,
            self.missing,
            " ".join([*others[:MAX_VALUES], *more]),
        ]


ADVICE = {
    "run": "MLflow has no run of it: `pipeline sync` makes one",
    "part of run": "MLflow's run of it is not whole: `pipeline sync` completes it",
    "model": "its training was stopped: `dvc repro`, or `dvc exp run`, with its params goes on",
    DIRTY: "its code had changes that the commit has not: origin/changes.patch of the run",
    "commit": "no commit or experiment has it: `pipeline reproduce ID` makes it again",
}
HEADER = [
    "name",
    "commit",
    "run",
    "status",
    "when",
    "accuracy",
    "missing",
    "not as in params.yaml",
]


def _day(when: int) -> str:
    with suppress(ValueError, OverflowError, OSError):  # a server may say anything
        return f"{datetime.fromtimestamp(when / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"
    return "?"


def paired_runs(everything: bool = False) -> list[PairedRun]:
    """What either side holds, the newest first.

    Args:
        everything: Whether to look at all commits, and not only at branches and tags.

    Raises:
        PipelineError: MLflow's store does not answer.
    """
    runs = _runs()
    results = dvc_results.dvc_results(everything)
    paired = [PairedRun(each, best(each, runs)) for each in results]
    taken = {pair.run.info.run_id for pair in paired if pair.run}
    # A run is left over only where no result of DVC's is of the same model and name.
    left = [
        run
        for run in runs
        if run.info.run_id not in taken and not any(of(each, run) for each in results)
    ]
    return sorted([*paired, *(PairedRun(None, run) for run in left)], key=lambda pair: -pair.when)


def _runs() -> list[MlflowRun]:
    """Of trainings, the newest first."""
    if not store.exists():
        return []
    with store.errors_as_sentences():
        find_run.close_abandoned()
        return store.search_runs(f"tags.`{provenance.FINGERPRINT}` != ''")


def best(result: DvcResult, runs: Sequence[MlflowRun]) -> MlflowRun | None:
    """The run of a result that has most of it, and of these the newest."""
    own = [run for run in runs if of(result, run)]
    whole = [run for run in own if run.data.tags.get(provenance.TEST) == result.test]
    return next(iter(whole + own), None)


def of(result: DvcResult, run: MlflowRun) -> bool:
    """Whether a run is of a result: the same model, params, and, if it is one, experiment.

    A commit that holds the result of an experiment, or of a `dvc repro` before the commit, needs no
    run of its own.
    """
    tags = run.data.tags
    same = tags.get(provenance.MODELS) == result.models
    # One of another commit is another experiment's, though it be of the same name.
    own = (tags.get(provenance.EXPERIMENT), tags.get(provenance.COMMIT)) == result.named
    if result.experiment:
        same |= provenance.MODELS not in tags  # its server went away
    return same and (own or not result.experiment) and find_run.has_params(run, result.values)
