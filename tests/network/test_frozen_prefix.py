from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from pipeline.core import shards
from pipeline.network import assembly, device
from pipeline.network.cut import cut
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves
from pipeline.network.loading.parallel_forward import SUB_BATCH
from pipeline.network.small_models import PREPROCESS
from pipeline.network.views import EncodedImages, Views
from pipeline.params import DeviceParams, Params, with_overrides
from tests.builders.clean_rows import clean_row
from tests.builders.images import encode_png

CPU = DeviceParams(accelerator="cpu", precision="32-true", devices=1, nodes=1, compile=False)


def build_prefix(
    params: Params,
    precision: str = "32-true",
    dtype: str = "float32",
    **overrides: str,
) -> FrozenPrefix:
    small = {"model.backbone": "resnet9_narrow", "model.weights": "none"}
    named = {f"model.{name}": value for name, value in overrides.items()}
    changed = with_overrides(params, small | named)
    assembled = assembly.assemble(changed.model, changed.images, changed.features.seed)
    return Halves(assembled.cut, assembled.preprocess, device.start(CPU), precision, dtype).prefix


def images(count: int = 3) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=chance)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_features_of_an_image_do_not_depend_on_others(params: Params, precision: str) -> None:
    prefix = build_prefix(params, precision)
    pixels = images(SUB_BATCH)
    (together,) = prefix(pixels)
    for number in (0, 7, SUB_BATCH - 1):
        (alone,) = prefix(pixels[number : number + 1])
        assert torch.equal(alone[0], together[number])


def test_it_computes_the_same_as_the_network(params: Params) -> None:
    prefix = build_prefix(params)
    (values,) = prefix(images())
    assert prefix.cut.prefix is not None
    with torch.no_grad():
        (expected,) = prefix.cut.prefix(prefix.preprocess.normalise(images()).contiguous())
    assert torch.allclose(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_its_outputs_can_be_trained_on(params: Params, trainable: str) -> None:
    (values,) = build_prefix(params, trainable=trainable)(images())
    assert values.dtype is torch.float32
    assert not values.requires_grad
    assert not values.is_inference()
    layer = nn.Linear(values.shape[-1], 2)
    layer(values).sum().backward()
    assert layer.weight.grad is not None


def test_where_nothing_is_frozen_it_only_normalises(params: Params) -> None:
    prefix = build_prefix(params, trainable="all")
    (values,) = prefix(images())
    assert torch.equal(values, prefix.preprocess.normalise(images()))
    assert prefix.digest() == ""
    assert prefix.shapes() == [(3, 32, 32)]


def test_values_are_rounded_to_the_stored_type(params: Params) -> None:
    (exact,), (rounded,) = (
        build_prefix(params, dtype=dtype)(images()) for dtype in ("float32", "float16")
    )
    assert torch.equal(exact.half().float(), rounded)
    assert not torch.equal(exact, rounded)


def test_auto_is_close_to_full_precision(params: Params) -> None:
    prefix = build_prefix(params, "auto")
    assert prefix.precision in {"32-true", "bf16-mixed"}
    (fast,), (exact,) = prefix(images()), build_prefix(params)(images())
    assert (fast - exact).abs().max() < 0.05 * exact.abs().max()


def test_half_precision_is_computed_in_half_precision(params: Params) -> None:
    (fast,), (exact,) = build_prefix(params, "bf16-mixed")(images()), build_prefix(params)(images())
    error = (fast - exact).norm() / exact.norm()
    assert 2**-12 < error < 2**-5  # bfloat16 rounds by 2^-9, float32 by 2^-24


def test_several_devices_compute_what_one_computes(params: Params, tmp_path: Path) -> None:
    """They are all the CPU here; the GPUs of a machine are used in the same way."""
    single = build_prefix(params)
    several = FrozenPrefix(
        single.cut, single.preprocess, [torch.device("cpu")] * 3, "32-true", "float16"
    )
    rows = [clean_row(f"{n:02d}", encode_png(image_array(n))) for n in range(3 * 16 + 5)]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    encoded = EncodedImages(tmp_path / "clean", [row["id"] for row in rows])
    views = Views(encoded.ids, encoded, single.preprocess)
    order = [range(40), [2], range(53)]
    try:
        on_devices = list(several.activations(views, order))
        on_host = list(several.activations(views, order, on_host=True))
    finally:
        several.close()
    for values, host, expected in zip(
        on_devices, on_host, single.activations(views, order), strict=True
    ):
        assert torch.equal(values[0], expected[0].half().float())
        assert torch.equal(host[0], expected[0].half())


def image_array(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.usefixtures("threads")
def test_a_repetition_on_one_thread_gives_the_same(params: Params, precision: str) -> None:
    prefix = build_prefix(params, precision)
    torch.set_num_threads(1)
    (values,) = prefix(images())
    (again,) = prefix(images())
    assert torch.equal(values, again)


def test_the_digest_depends_on_the_weights_and_the_cut(params: Params) -> None:
    digests = [
        build_prefix(params, "32-true", "float32", **change).digest()
        for change in ({}, {}, {"trainable": "layer3"}, {"backbone": "cifar_cnn"})
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    other = with_overrides(params, {"features.seed": 7})
    assert build_prefix(other).digest() != digests[0]


def test_the_network_itself_is_not_changed(params: Params) -> None:
    prefix = build_prefix(params)
    assert prefix.cut.prefix is not None
    before = {name: value.clone() for name, value in prefix.cut.prefix.state_dict().items()}
    prefix(images())
    after = prefix.cut.prefix.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_masks_of_five_dimensions_stay_as_they_are() -> None:
    """Those of Swin v2, which are constants of the traced prefix."""
    network = SwinTransformerV2(
        img_size=32, patch_size=2, window_size=4, embed_dim=8, depths=(2, 1), num_heads=(2, 2)
    )
    parts = cut(network, "head.fc", 32)
    assert parts.prefix is not None
    assert any(value.ndim == 5 for value in parts.prefix.buffers())
    prefix = Halves(parts, PREPROCESS, device.start(CPU), "32-true", "float32").prefix
    (values,) = prefix(images())
    (expected,) = parts.prefix(PREPROCESS.normalise(images()))
    assert torch.allclose(values, expected, atol=1e-4)
