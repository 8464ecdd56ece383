"""The frozen prefix in OpenVINO: on a CPU, one image at a time on each core."""

import importlib.metadata
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.views import Preprocess

PACKAGE = "openvino"
PRECISIONS = {"32-true": "f32", "bf16-mixed": "bf16"}  # by the value of features.precision


class UnsupportedError(Exception):
    """OpenVINO is not installed, or cannot run a network in a precision."""


def name() -> str | None:
    """The engine's name with its version, or None if OpenVINO is not installed."""
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return None


class OpenVinoEngine:
    """uint8 (B, 3, S, S) -> float32 tensors (B, ...), on a CPU, from any number of threads.

    Every image passes the network alone, on one thread, so its values depend neither on the other
    images nor on the number of threads. Batches would not be faster.
    """

    def __init__(
        self, prefix: nn.Module, preprocess: Preprocess, precision: str, streams: int
    ) -> None:
        """
        Args:
            prefix: float32 (1, 3, S, S) -> tensors (1, ...).
            precision: As features.precision.
            streams: Images that are computed at the same time.

        Raises:
            UnsupportedError: OpenVINO is missing, or cannot run this.
        """
        self.name = name() or PACKAGE
        model = _convert(prefix, preprocess)
        self._compiled = _compile(model, PRECISIONS[precision], streams)
        self._idle: deque[Any] = deque()  # requests; a thread takes one, or makes one more

    def __call__(self, pixels: Tensor) -> Tensors:
        request = self._request()
        images = pixels.numpy()
        values = [torch.empty(len(pixels), *output.shape[1:]) for output in self._compiled.outputs]
        for row in range(len(pixels)):
            request.infer([images[row : row + 1]], share_inputs=True, share_outputs=True)
            for number, tensor in enumerate(values):
                tensor[row] = torch.from_numpy(request.get_output_tensor(number).data[0])
        self._idle.append(request)
        return tuple(values)

    def _request(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()


@contextmanager
def _failures_as_unsupported() -> Iterator[None]:
    """For blocks of torch's and OpenVINO's calls alone: errors of our own must not end here."""
    try:
        frontend = _import_openvino().frontend
    except ImportError as error:  # this system lacks a library, or is too old
        raise UnsupportedError(f"it cannot be imported ({error})") from error
    try:
        yield
    except (
        RuntimeError,  # of tracing and compiling; of other shapes than torch's
        IndexError,  # of an output that does not depend on the images
        frontend.GeneralFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UnsupportedError(reason[-1].removeprefix("-- ")) from error


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report each import and conversion."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _convert(prefix: nn.Module, preprocess: Preprocess) -> Any:
    """An OpenVINO model: uint8 (1, 3, S, S) -> float32 tensors (1, ...).

    Raises:
        UnsupportedError: torch cannot trace the prefix, or OpenVINO cannot convert it.
    """
    shape = (1, 3, preprocess.size, preprocess.size)
    trace = _trace(prefix, preprocess, shape)
    with _failures_as_unsupported():
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(trace)  # which the conversion needs alive
        model = frontend.convert(frontend.load(decoder))
        model.reshape({0: list(shape)})
    return model


def _trace(prefix: nn.Module, preprocess: Preprocess, shape: tuple[int, ...]) -> Any:
    """TorchScript of a function; that of a module takes ten times as long."""

    def forward(pixels: Tensor) -> Tensors:
        values: Tensors = prefix(preprocess.normalise(pixels))
        return values

    with _failures_as_unsupported(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it is deprecated; branches on sizes, which are fixed
        trace: Any = torch.jit.trace
        return trace(forward, torch.zeros(shape, dtype=torch.uint8), check_trace=False)


def _compile(model: Any, hint: str, streams: int) -> Any:
    """The compiled model; every stream has one thread.

    Raises:
        UnsupportedError: OpenVINO cannot compile it, or this processor computes in another
            precision.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": str(streams),
        "ENABLE_CPU_PINNING": False,  # other processes and the decoders use these cores too
    }
    # In a thread of its own: OpenVINO gives the thread that loads it a stack for signal handlers,
    # and frees that with the model. Of several models, freed in another order, the main thread
    # would keep a freed stack, and the next signal (Ctrl-C, the end of a service) would crash.
    with _failures_as_unsupported(), ThreadPoolExecutor(1) as thread:
        core = _import_openvino().Core()
        compiled = thread.submit(core.compile_model, model, "CPU", settings).result()
    actual = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if actual != hint:
        raise UnsupportedError(f"this processor computes in {actual}, not {hint}")
    return compiled
