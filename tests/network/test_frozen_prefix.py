from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pipeline.network import assembly, device
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves
from pipeline.network.parallel_forward import SUB_BATCH
from pipeline.params import DeviceParams, Params, with_overrides

CPU = DeviceParams(accelerator="cpu", precision="32-true", devices=1, compile=False)


def frozen(
    params: Params,
    precision: str = "32-true",
    dtype: str = "float32",
    **overrides: str,
) -> FrozenPrefix:
    small = {"model.backbone": "resnet9_narrow", "model.weights": "none"}
    named = {f"model.{name}": value for name, value in overrides.items()}
    chosen = with_overrides(params, small | named)
    made = assembly.assemble(chosen.model, chosen.images, chosen.features.seed)
    return Halves(made.cut, made.preprocess, device.start(CPU), precision, dtype).prefix


def pictures(count: int = 3) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=chance)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_an_images_features_do_not_depend_on_its_company(params: Params, precision: str) -> None:
    part = frozen(params, precision)
    pixels = pictures(SUB_BATCH)
    (together,) = part(pixels)
    for number in (0, 7, SUB_BATCH - 1):
        (alone,) = part(pixels[number : number + 1])
        assert torch.equal(alone[0], together[number])


def test_it_computes_what_the_network_computes(params: Params) -> None:
    part = frozen(params)
    (found,) = part(pictures())
    assert part.cut.prefix is not None
    with torch.no_grad():
        (expected,) = part.cut.prefix(part.preprocess.normalise(pictures()).contiguous())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_what_it_gives_can_be_trained_on(params: Params, trainable: str) -> None:
    (values,) = frozen(params, trainable=trainable)(pictures())
    assert values.dtype is torch.float32
    assert not values.requires_grad
    assert not values.is_inference()
    layer = nn.Linear(values.shape[-1], 2)
    layer(values).sum().backward()
    assert layer.weight.grad is not None


def test_where_nothing_is_frozen_it_only_normalises(params: Params) -> None:
    part = frozen(params, trainable="all")
    (found,) = part(pictures())
    assert torch.equal(found, part.preprocess.normalise(pictures()))
    assert part.digest() == ""
    assert part.shapes() == [(3, 32, 32)]


def test_values_are_rounded_to_what_is_stored(params: Params) -> None:
    (exact,), (rounded,) = (
        frozen(params, dtype=dtype)(pictures()) for dtype in ("float32", "float16")
    )
    assert torch.equal(exact.half().float(), rounded)
    assert not torch.equal(exact, rounded)


def test_auto_is_as_good_as_full_precision_for_the_eye(params: Params) -> None:
    part = frozen(params, "auto")
    assert part.precision in {"32-true", "bf16-mixed"}
    (fast,), (exact,) = part(pictures()), frozen(params)(pictures())
    assert (fast - exact).abs().max() < 0.05 * exact.abs().max()


def test_half_precision_is_computed_in_half_precision(params: Params) -> None:
    (fast,), (exact,) = frozen(params, "bf16-mixed")(pictures()), frozen(params)(pictures())
    assert not torch.equal(fast, exact)
    assert torch.equal(fast.bfloat16().float(), fast)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.usefixtures("threads")
def test_one_part_at_a_time_is_the_same_on_one_thread(params: Params, precision: str) -> None:
    part = frozen(params, precision)
    torch.set_num_threads(1)
    (one,) = part(pictures())
    (again,) = part(pictures())
    assert torch.equal(one, again)


def test_the_digest_follows_weights_and_place_of_the_cut(params: Params) -> None:
    digests = [
        frozen(params, "32-true", "float32", **change).digest()
        for change in ({}, {}, {"trainable": "layer3"}, {"backbone": "cifar_cnn"})
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    other = with_overrides(params, {"features.seed": 7})
    assert frozen(other).digest() != digests[0]


def test_the_network_itself_stays_as_it_is(params: Params) -> None:
    part = frozen(params)
    assert part.cut.prefix is not None
    before = {name: value.clone() for name, value in part.cut.prefix.state_dict().items()}
    part(pictures())
    after = part.cut.prefix.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_masks_of_five_dimensions_stay_as_they_are(params: Params) -> None:
    """Swin v2's, which torch.fx makes constants of the prefix."""
    sized = with_overrides(params, {"images.size": 256})
    part = frozen(sized, backbone="timm/swinv2_tiny_window8_256")
    seen = torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
    (values,) = part(seen)
    (expected,) = part.cut.prefix(part.preprocess.normalise(seen))  # type: ignore[misc]
    assert torch.allclose(values, expected, atol=1e-4)
