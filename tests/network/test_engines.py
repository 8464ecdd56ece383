import hashlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.network import assembly, device, engines, feature_store, openvino_engine
from pipeline.network.cut import cut
from pipeline.network.engines import Workload
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.openvino_engine import OpenVinoEngine
from pipeline.network.small_models import PREPROCESS
from pipeline.params import Params, load_params, with_overrides
from tests.builders.features import feature_index
from tests.builders.forks import Fork

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    openvino_engine.name() is None, reason="OpenVINO is not installed on this machine"
)


def images(count: int, size: int = 32) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=chance)


def workload(
    prefix: nn.Module, precision: str = "32-true", where: torch.device = CPU, compiled: bool = False
) -> Workload:
    return Workload(prefix, PREPROCESS, where, precision, 16, compiled, 2)


class Layers(nn.Module):
    """A prefix whose last operation is `operation`."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3).requires_grad_(False)
        self.operation = operation

    def forward(self, values: Tensor) -> tuple[Tensor]:
        return (self.operation(self.convolution(values)),)


def small_prefix(
    params: Params, precision: str, engine: str | None = None, padded: bool = True
) -> FrozenPrefix:
    small = {"model.backbone": "resnet9_narrow", "model.weights": "none", "images.size": 32}
    changed = with_overrides(params, small)
    assembled = assembly.assemble(changed.model, changed.images, changed.features.seed)
    return FrozenPrefix(
        assembled.cut,
        assembled.preprocess,
        [CPU],
        precision,
        "float32",
        engine=engine,
        padded=padded,
    )


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_openvino
@pytest.mark.parametrize(
    ("name", "trained_from", "size", "tensors"),
    [
        ("mobilenet_v2", "features.14", 96, 1),
        ("densenet121", "features.denseblock4.denselayer3", 64, 3),
        ("timm/test_convnext", "head", 64, 1),
        ("timm/test_vit", "head", 160, 1),
    ],
)
def test_float32_is_as_accurate_as_torch(
    params: Params, name: str, trained_from: str, size: int, tensors: int
) -> None:
    changed = with_overrides(
        params,
        {
            "model.backbone": name,
            "model.weights": "none",
            "images.size": size,
            "model.trainable": trained_from if "." in trained_from else "head",
        },
    )
    assembled = assembly.assemble(changed.model, changed.images, changed.features.seed)
    prefix = FrozenPrefix(assembled.cut, assembled.preprocess, [CPU], "32-true", "float32")
    assert prefix.engine == openvino_engine.name(), prefix.why
    pixels = images(2, size)
    assert assembled.cut.prefix is not None
    with torch.no_grad():
        expected = assembled.cut.prefix(assembled.preprocess.normalise(pixels))
    values = prefix(pixels)
    assert len(values) == len(expected) == tensors
    for value, other in zip(values, expected, strict=True):
        assert (value - other).norm() <= 1e-5 * other.norm()


@needs_openvino
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.usefixtures("threads")
def test_values_depend_on_neither_batches_nor_streams(params: Params, precision: str) -> None:
    if device.fastest("auto", CPU) == "32-true" and precision == "bf16-mixed":
        pytest.skip("this processor has no bfloat16")
    pixels, results = images(17), []
    for count in (1, 3):
        torch.set_num_threads(count)
        prefix = small_prefix(params, precision)
        assert prefix.engine == openvino_engine.name()
        results.append(prefix(pixels)[0])
        results.append(torch.cat([prefix(pixels[:1])[0], prefix(pixels[1:])[0]]))
    assert all(torch.equal(values, results[0]) for values in results)


@needs_openvino
def test_a_prediction_of_one_image_starts_from_the_bytes_of_its_features(params: Params) -> None:
    pixels, features = images(5), small_prefix(params, "auto")
    prediction = small_prefix(params, "auto", features.engine, padded=False)
    assert torch.equal(prediction(pixels[3:4])[0], features(pixels)[0][3:4])


@needs_openvino
def test_values_are_the_same_bytes_in_another_process_without_its_telemetry(params: Params) -> None:
    code = (
        "import hashlib, sys; from tests.network.test_engines import *;"
        "from pipeline.params import load_params;"
        "values = small_prefix(load_params(), 'auto')(images(3))[0];"
        "assert sys.modules['openvino_telemetry'] is None;"
        "assert 'openvino' in sys.modules;"
        "sys.stdout.write(hashlib.sha256(values.numpy().tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    values = small_prefix(load_params(), "auto")(images(3))[0]
    assert printed == hashlib.sha256(values.numpy().tobytes()).hexdigest()


@needs_openvino
def test_a_signal_is_handled_after_engines_were_replaced() -> None:
    """As by a service that ends after its champion moved."""
    code = (
        "import gc, signal; from tests.network.test_engines import *;"
        "from pipeline.params import load_params;"
        "prefixes = [small_prefix(load_params(), 'auto') for _ in range(3)];"
        "assert {prefix.engine for prefix in prefixes} == {openvino_engine.name()};"
        "prefixes.pop(0); gc.collect(); prefixes.clear(); gc.collect();"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'));"
        "signal.raise_signal(signal.SIGTERM)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


@needs_openvino
def test_a_fork_computes_with_threads_of_its_own(params: Params, tmp_path: Path) -> None:
    values = small_prefix(params, "auto")(images(3))[0]

    def compute() -> None:
        again = small_prefix(params, "auto")(images(3))[0]
        os._exit(0 if torch.equal(again, values) else 1)

    fork = Fork(compute, ["compute"], tmp_path / "output.txt")
    try:
        assert fork.wait(60) == 0
    finally:
        fork.kill()


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (lambda values: values.logcumsumexp(1), "logcumsumexp"),
        (lambda values: values * float("nan"), "not close"),
        (lambda values: values.new_ones(1, 3), "OpenVINO cannot"),
        (lambda values: torch.kron(values, torch.ones(3, 1, 1)), "view size is not compatible"),
    ],
    ids=["cannot be converted", "not numbers", "a constant", "cannot be traced"],
)
@needs_openvino
def test_torch_computes_what_openvino_cannot(
    operation: Callable[[Tensor], Tensor], why: str
) -> None:
    choice = engines.choose(workload(Layers(operation)))
    assert choice.engine.name == "torch"
    assert why in choice.why
    again = engines.choose(workload(Layers(operation)))
    assert (again.engine.name, again.why) == (choice.engine.name, choice.why)


@needs_openvino
def test_a_wrong_conversion_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of an operation that OpenVINO takes for another one."""
    right = OpenVinoEngine.__call__
    monkeypatch.setattr(
        OpenVinoEngine, "__call__", lambda self, pixels: (right(self, pixels)[0].relu(),)
    )
    choice = engines.choose(workload(Layers(torch.tanh)))
    assert choice.engine.name == "torch"
    assert "not close" in choice.why


@needs_openvino
@pytest.mark.parametrize("precision", ["16-mixed"])
def test_torch_computes_in_precisions_that_openvino_lacks(precision: str) -> None:
    choice = engines.choose(workload(Layers(torch.relu), precision))
    assert choice.engine.name == "torch"
    assert precision in choice.why


@needs_openvino
def test_a_processor_without_the_precision_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    if "fp16" in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor computes in f16, the one precision that others lack")
    monkeypatch.setitem(openvino_engine.PRECISIONS, "32-true", "f16")
    choice = engines.choose(workload(Layers(torch.relu)))
    assert choice.engine.name == "torch"
    assert "this processor computes in" in choice.why


def test_without_openvino_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr("importlib.metadata.version", missing)
    choice = engines.choose(workload(Layers(torch.relu)))
    assert choice.engine.name == "torch"
    assert choice.why == "OpenVINO cannot: it is not installed"
    again = engines.choose(workload(Layers(torch.relu)), "openvino 2026.4.1")
    assert again.engine.name == "torch"


def test_a_recorded_engine_computes_again(params: Params) -> None:
    assert small_prefix(params, "32-true", "torch").engine == "torch"
    if (name := openvino_engine.name()) is not None:
        assert small_prefix(params, "32-true", "openvino 2020.1").engine == name


def test_features_of_another_engine_are_not_continued(params: Params) -> None:
    prefix = small_prefix(params, "32-true", "torch")
    index = feature_index(engine="openvino 2020.1")
    with pytest.raises(PipelineError, match=r"set up the frozen part for openvino 2020\.1"):
        feature_store._check_engine(index, prefix)
    feature_store._check_engine(feature_index(engine="torch"), prefix)


def test_nothing_frozen_needs_no_engine(params: Params) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    prefix = FrozenPrefix(cut(network, "", 32), PREPROCESS, [CPU], "32-true", "float32")
    assert prefix.engine == ""
    assert prefix.why == ""
