"""A process that draws pictures while this one imports torch and computes.

It imports matplotlib and scikit-learn, which take as long as torch, and never torch. It gets facts
and returns pictures; files are written by this process alone.
"""

import gc
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from pipeline.core.errors import PipelineError
from pipeline.images.worker import Worker, WorkerFailure

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class DrawingProcess(Executor):
    """Calls functions in one process, in the order of `submit`. It ends with the block."""

    def __init__(self) -> None:
        self._worker = Worker(_import_libraries)
        self._thread = ThreadPoolExecutor(1)  # waits for the process

    def __enter__(self) -> Self:
        """Start the process without waiting for it."""
        self._worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def submit(
        self,
        function: Callable[Arguments, Result],
        /,
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Future[Result]:
        """The future result of a picklable function.

        Its errors are those of the function, or a PipelineError if the process ends.
        """
        return self._thread.submit(self._call, partial(function, *arguments, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Kill the process, also in the middle of a picture."""
        self._thread.shutdown(wait=False, cancel_futures=cancel_futures)
        self._worker.close()
        self._thread.shutdown(wait)

    def _call(self, task: Callable[[], Result]) -> Result:
        try:
            result: Result = self._worker.call(_perform, task)
            return result
        except WorkerFailure as failure:
            raise PipelineError(
                f"the process that draws the pictures failed: {failure.why}; is the machine short "
                "of memory, or something killing processes? Run the stage again"
            ) from failure


# ---- in the process ----


def _import_libraries() -> None:
    gc.disable()  # imports create no garbage
    from pipeline.stages.evaluate import charts, fonts, photograph_grid, plane_map  # noqa: F401

    gc.freeze()
    gc.enable()


def _perform(task: Callable[[], Any]) -> Any:
    return task()
