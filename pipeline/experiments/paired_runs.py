"""Results in DVC, each with its MLflow run."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from pipeline.core import terminal
from pipeline.experiments import dvc_results
from pipeline.experiments.dvc_results import DvcResult
from pipeline.tracking import find_run, process_lock, provenance, stale_stages, store
from pipeline.tracking.missing_parts import missing_parts
from pipeline.tracking.store import UNREACHABLE, MlflowRun

RUNNING = "RUNNING"
STALE = "stages behind"
DIRTY = "-dirty"  # as `git describe` marks it
MAX_PARAMS = 4  # listed for a result

ADVICE = {
    "run": "MLflow has no run of it: `pipeline sync` creates one, if DVC has its files",
    "part of run": "its run in MLflow is incomplete: `pipeline sync` completes it",
    "end": "MLflow says RUNNING, but no process of this clone works on it; unless one of another "
    "clone does, close it: `MlflowClient().set_terminated(ID, 'KILLED')`",
    "model": "its training was stopped: `dvc repro` or `dvc exp run` with its params resumes it",
    "test result": "its model was not tested, or that was not recorded: `dvc repro` or `dvc exp "
    "run` with its params does both",
    STALE: "its dvc.lock has results of an earlier state, not of its own params, data and code: "
    "`dvc repro` or `dvc exp run` brings them up to date",
    DIRTY: "its code has uncommitted changes: see origin/changes.patch of the run",
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


@dataclass(frozen=True)
class PairedRun:
    """A result in DVC and its MLflow run; one of them may be missing."""

    dvc_result: DvcResult | None
    run: MlflowRun | None
    lacking: Sequence[str] = ()
    """The parts of the result that the run lacks."""

    @property
    def is_complete(self) -> bool:
        """Whether MLflow has everything that DVC has."""
        if self.dvc_result is None or self.dvc_result.stale:
            return True
        return self.run is not None and not self.lacking

    @property
    def name(self) -> str:
        if self.dvc_result is not None:
            return self.dvc_result.label
        return str(self.run.info.run_name) if self.run else ""

    @property
    def commit(self) -> str:
        """The commit of the code; for an experiment, its baseline."""
        if self.dvc_result is not None:
            return self.dvc_result.commit
        return str(self.run.data.tags.get(provenance.COMMIT, "")) if self.run else ""

    @property
    def is_dirty(self) -> bool:
        """Whether its code differs from `commit`."""
        if self.dvc_result is not None:
            return bool(self.dvc_result.changes)
        return self.run is not None and self.run.data.tags.get(provenance.CHANGED, "no") != "no"

    def other_params(self, current: Mapping[str, object]) -> list[str]:
        """Its params that differ from `current`, as `dvc exp run -S` takes them."""
        params = (
            self.dvc_result.params if self.dvc_result else self.run.data.params if self.run else {}
        )
        return [
            f"{key}={'null' if value in (None, 'None') else value}"
            for key, value in params.items()
            if key not in current or find_run.normalize(value) != find_run.normalize(current[key])
        ]

    @property
    def time_ms(self) -> int:
        """Start of the run, else the time of the commit, in ms since 1970."""
        if self.run is not None:
            return int(self.run.info.start_time)
        return self.dvc_result.time_ms if self.dvc_result else 0

    @property
    def accuracy(self) -> float | None:
        """On the test set. None for a stale result: its accuracy belongs to another commit."""
        if self.dvc_result is not None and self.dvc_result.stale:
            return None
        logged = self.run.data.metrics.get("test/accuracy") if self.run else None
        if logged is not None or self.dvc_result is None:
            return logged
        return self.dvc_result.accuracy

    @property
    def status(self) -> str:
        return str(self.run.info.status).lower() if self.run else ""

    @cached_property
    def missing(self) -> str:
        """A key of `ADVICE`, or "" if nothing is missing on either side."""
        if self.dvc_result is not None and self.dvc_result.stale:
            return STALE
        if self.run is None:
            return "run"
        if self.run.info.status == RUNNING:
            return "" if self._may_run else "end"
        if not self.is_complete:
            return "part of run"
        if self.dvc_result is not None:
            return ""
        models_md5 = self.run.data.tags.get(provenance.MODELS)
        if models_md5 is None:
            return "model"
        if provenance.TEST not in self.run.data.tags:
            return "test result"
        return "" if any(dvc_results.results_with_model(models_md5)) else "commit"

    @property
    def _may_run(self) -> bool:
        """Whether a process may work on the run; of other machines it is not known."""
        tags = self.run.data.tags if self.run else {}
        is_elsewhere = tags.get(provenance.HOST) != socket.gethostname()
        return is_elsewhere or process_lock.is_alive(tags.get(process_lock.PROCESS, ""))

    def describe_missing(self) -> str:
        """What is missing, with its parts."""
        if self.missing == STALE and self.dvc_result is not None:
            return stale_stages.describe(self.dvc_result.stale)
        parts = f": {', '.join(self.lacking)}" if self.missing == "part of run" else ""
        return self.missing + parts

    def row(self, current: Mapping[str, object]) -> list[str]:
        """Cells below `HEADER`; `current` are the params in params.yaml."""
        params = self.other_params(current)
        more = [f"and {len(params) - MAX_PARAMS} more"] if len(params) > MAX_PARAMS else []
        return [
            self.name,
            self.commit[:7] + (DIRTY if self.is_dirty else ""),
            self.run.info.run_id[:8] if self.run else "",
            self.status,
            _format_time(self.time_ms),
            "" if self.accuracy is None else f"{self.accuracy:.4f}",
            self.describe_missing(),
            " ".join([*params[:MAX_PARAMS], *more]),
        ]


def _format_time(time_ms: int) -> str:
    with suppress(ValueError, OverflowError, OSError):  # a server may send any number
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M}"
    return "?"


def paired_runs(all_commits: bool = False) -> list[PairedRun]:
    """All results and runs, the newest first.

    Args:
        all_commits: Whether to search all commits, and not only branches and tags.

    Raises:
        PipelineError: MLflow's store cannot be reached.
    """
    runs = _read_runs()
    all_results = dvc_results.all_results(all_commits)
    results = [result for result in all_results if not result.stale]
    stale = [PairedRun(result, None) for result in all_results if result.stale]
    paired = list(_pair(results, runs))
    paired_ids = {pair.run.info.run_id for pair in paired if pair.run}
    # A second run of a result that DVC has is not listed.
    unpaired = [
        PairedRun(None, run)
        for run in runs
        if run.info.run_id not in paired_ids
        and not any(is_run_of(result, run) for result in results)
    ]
    return sorted([*paired, *stale, *unpaired], key=lambda pair: -pair.time_ms)


def _pair(results: Sequence[DvcResult], runs: Sequence[MlflowRun]) -> Iterator[PairedRun]:
    """Each result with its run, and what that lacks."""
    can_list = True
    for result in results:
        run = best_run(result, runs)
        if run is None:
            yield PairedRun(result, None)
            continue
        try:
            parts = missing_parts(run, result.digest_tags, with_files=can_list)
        except UNREACHABLE as error:
            can_list = False
            reason = store.describe_error(error)
            terminal.warn(f"the files of runs at {store.address()} are not checked ({reason})")
            parts = missing_parts(run, result.digest_tags, with_files=False)
        yield PairedRun(result, run, parts)


def _read_runs() -> list[MlflowRun]:
    """Runs of trainings, the newest first."""
    if not store.exists():
        return []
    with store.errors_as_sentences():
        find_run.close_abandoned()
        return store.search_runs(f"tags.`{provenance.FINGERPRINT}` != ''")


def best_run(result: DvcResult, runs: Sequence[MlflowRun]) -> MlflowRun | None:
    """The newest complete run of a result, else its newest run."""
    candidates = [run for run in runs if is_run_of(result, run)]
    complete = [
        run for run in candidates if not missing_parts(run, result.digest_tags, with_files=False)
    ]
    tested = [run for run in candidates if run.data.tags.get(provenance.TEST) == result.test_md5]
    return next(iter(complete + tested + candidates), None)


def is_run_of(result: DvcResult, run: MlflowRun) -> bool:
    """Whether model, params and, for an experiment, its name and baseline are those of the result.

    A commit of the result of an experiment, or of an earlier `dvc repro`, needs no other run.
    """
    tags = run.data.tags
    is_same_model = tags.get(provenance.MODELS) == result.models_md5
    if result.experiment:
        # The baseline counts too: experiments on two commits may have the same name.
        if (tags.get(provenance.EXPERIMENT), tags.get(provenance.COMMIT)) != result.identity:
            return False
        is_same_model |= provenance.MODELS not in tags  # the server was lost during training
    return is_same_model and find_run.has_params(run, result.params)
