"""Record in MLflow from a process of its own, which works while this one does.

Importing mlflow and opening its database take as long as importing torch. A process that has
imported mlflow already, such as a notebook, records in itself.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from pipeline.core import program, terminal
from pipeline.core.history import Record
from pipeline.images.worker import Worker, WorkerFailure
from pipeline.params import Params

if TYPE_CHECKING:  # they import mlflow or torch
    from torch import nn

    from pipeline.tracking.result import TrainedResult
    from pipeline.tracking.run import Run

MAX_CLOSE_SECONDS = 10  # to close the run of a training that was stopped or failed
CONNECTION_SECONDS = 60  # that an error of the first connection is taken to last
NOT_RECORDED = "; not recorded in MLflow, for the reason in the warning"
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Recorder:
    """The process, from the start of the block to its end.

    A process that fails costs the record and a warning, as a store does that cannot be reached.
    """

    def __init__(self, is_apart: bool | None = None) -> None:
        """`is_apart`: whether to use a process; None for yes, unless this one has mlflow."""
        if is_apart is None:
            is_apart = program.is_first_process() and "mlflow" not in sys.modules
        self._session = _Session()
        self._worker = Worker(_prepare) if is_apart else None
        self._thread = ThreadPoolExecutor(1)  # waits for the process
        self._has_failed = False

    def __enter__(self) -> Self:
        """Start the process without waiting for it."""
        if self._worker is not None:
            self._submit(_Session.connect)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._has_failed = True  # whatever ends the process now needs no warning
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._worker is not None:
            self._worker.close()
        self._thread.shutdown()

    @contextmanager
    def training(
        self,
        params: Params,
        fingerprint: str,
        split_csv: Path,
        deviation: str,
        is_recorded: bool = True,
    ) -> Iterator["TrainingRecord"]:
        """The record of a training: FINISHED if the block ends without error, or FAILED, or KILLED.

        Args:
            is_recorded: Otherwise nothing is.
        """
        if not is_recorded:
            yield NO_RECORD
            return
        with tempfile.TemporaryDirectory() as folder:
            record = TrainingRecord(self._submit, Path(folder))
            try:
                self._submit(_Session.open_training, params, fingerprint, split_csv, deviation)
                yield record
            except BaseException as error:
                is_ended = isinstance(error, KeyboardInterrupt | SystemExit)  # Ctrl-C and SIGTERM
                closed = self._submit(_Session.close, "KILLED" if is_ended else "FAILED")
                with suppress(TimeoutError):  # the next start closes the run
                    closed.result(MAX_CLOSE_SECONDS)
                raise
            self._submit(_Session.close, "FINISHED").result()

    def record_evaluation(self, result: "TrainedResult") -> bool:
        """Like `record.record_evaluation`; waits for its end."""
        return self._submit(_Session.record_evaluation, result).result() or False

    def _submit(
        self,
        function: "Callable[Concatenate[_Session, Arguments], Result]",
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Future[Result | None]:
        """Call a method of the session, after those that were submitted before."""
        if self._worker is not None:
            message = function, arguments, options
            return self._thread.submit(self._call, self._worker, message)
        future: Future[Result | None] = Future()
        future.set_result(function(self._session, *arguments, **options))
        return future

    def _call(self, worker: Worker, message: tuple[Any, ...]) -> Any:
        if self._has_failed:
            return None
        try:
            return worker.call(self._session, message)
        except WorkerFailure as failure:
            self._give_up(failure.why)
        except Exception as error:  # noqa: BLE001 - a bug in the record must not cost the training
            self._give_up(f"{type(error).__name__}: {terminal.one_line(error)}")
        return None

    def _give_up(self, why: str) -> None:
        """Record nothing from now on, and warn, unless the block has ended."""
        if self._has_failed:
            return
        self._has_failed = True
        terminal.warn(
            f"the process that records in MLflow failed ({why}); the work goes on without it. "
            "Record this model later with: pipeline sync"
        )


def _ignore(*_: object) -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


class TrainingRecord:
    """The run of a training, in the process. All but `is_recorded` returns at once."""

    def __init__(self, submit: Callable[..., Future[Any]], folder: Path) -> None:
        """`folder` is for files that the process has yet to log."""
        self._submit = submit
        self._folder = folder

    def log_validation(self, record: Record) -> None:
        """Like `Run.log_validation`."""
        self._submit(_Session.log_validation, record)

    def log_file(self, path: Path, name: str) -> None:
        """As `Run.log_file`; the file must stay until the run ends."""
        self._submit(_Session.log_file, path.absolute(), name)

    def log_checkpoint(self, suffix: "nn.Module", name: str) -> None:
        """As `Run.log_checkpoint`."""
        from pipeline.network import tensors

        path = self._folder / f"{name}.safetensors"
        tensors.write(path, suffix.state_dict())
        self._submit(_Session.log_checkpoint_file, path)

    def log_trained(self, models: Path, records: Sequence[Record]) -> None:
        """As `record.log_trained`."""
        self._submit(_Session.log_trained, models, records)

    def is_recorded(self) -> bool:
        """Whether all of it was recorded until now."""
        return bool(self._submit(_Session.is_recorded).result())


NO_RECORD = TrainingRecord(_ignore, Path())


# ---- in the process ----


def _prepare() -> None:
    program.IS_PROGRAM = True
    program.start()  # until `connect` has imported the rest
    from pipeline.tracking import record  # noqa: F401


class _Session:
    """What the process does, called by messages."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._error: Exception | None = None
        self._error_time = 0.0

    def __call__(self, message: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
        function, arguments, options = message
        return function(self, *arguments, **options)

    def connect(self) -> None:
        from pipeline.tracking import store

        self._error = store.catch_error(store.open_store)
        program.end_start()
        self._error_time = time.monotonic()

    def _connection_error(self) -> Exception | None:
        """Why the store cannot be reached. Trying again would take a minute where it is silent."""
        is_recent = time.monotonic() - self._error_time < CONNECTION_SECONDS
        return self._error if is_recent else None

    def open_training(
        self, params: Params, fingerprint: str, split_csv: Path, deviation: str
    ) -> None:
        from pipeline.tracking import record
        from pipeline.tracking.run import Run

        self._run = Run()
        if error := self._connection_error():
            self._run.disable(error)
            return
        record.open_training_run(params, fingerprint, split_csv, deviation, self._run)

    def log_validation(self, record: Record) -> None:
        if self._run is not None:
            self._run.log_validation(record)

    def log_file(self, path: Path, name: str) -> None:
        if self._run is not None:
            self._run.log_file(path, name)

    def log_checkpoint_file(self, path: Path) -> None:
        self.log_file(path, "checkpoint")
        path.unlink()

    def log_trained(self, models: Path, records: Sequence[Record]) -> None:
        from pipeline.tracking import record

        if self._run is not None:
            record.log_trained(self._run, models, records)

    def is_recorded(self) -> bool:
        return self._run is not None and self._run.id is not None

    def close(self, status: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.end(status)

    def record_evaluation(self, result: "TrainedResult") -> bool:
        from pipeline.tracking import record
        from pipeline.tracking.run import Run

        if error := self._connection_error():
            Run().disable(error)
            return False
        return record.record_evaluation(result)
