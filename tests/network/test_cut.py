from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.maxvit import MaxVit
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from torchvision.models.vision_transformer import VisionTransformer

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, tracing
from pipeline.network import cut as cutting
from pipeline.network.cut import check_size, cut

# One of each family that is built differently; its side in pixels, and a module well before the
# head. Small ones, where all of a family are one class.
FAMILIES = [
    ("alexnet", 64, "features.8"),
    ("vgg11", 32, "features.16"),
    ("resnet18", 64, "layer3.1"),
    ("resnext50_32x4d", 32, "layer4"),
    ("inception_v3", 96, "Mixed_7b"),
    ("googlenet", 64, "inception4b"),
    ("squeezenet1_1", 64, "features.9"),
    ("densenet121", 64, "features.denseblock4.denselayer9"),
    ("mobilenet_v2", 64, "features.14"),
    ("mobilenet_v3_small", 64, "features.9"),
    ("mnasnet0_5", 64, "layers.11"),
    ("shufflenet_v2_x0_5", 64, "stage3.1"),
    ("efficientnet_b0", 64, "features.6"),
    ("efficientnet_v2_s", 32, "features.6"),
    ("regnet_y_400mf", 64, "trunk_output.block3"),
    ("convnext_tiny", 64, "features.7"),
    ("vit", 32, "encoder.layers.encoder_layer_2"),
    ("swin", 64, "features.3"),
    ("swin_v2", 64, "features.3.0"),
    ("maxvit", 64, "blocks.1"),
    ("cifar_cnn", 32, "classifier"),
    ("resnet9", 32, "layer2"),
    ("timm/resnet18", 64, "layer3"),
    ("timm/efficientnet_b0", 64, "blocks.5"),
    ("timm/mobilenetv3_small_050", 64, "blocks.3"),
    ("timm/convnext_atto", 64, "stages.2"),
    ("timm/mobileone_s0", 32, "stages.3"),
    ("timm/vit", 32, "blocks.2"),
    ("timm/vit inside", 32, "blocks.2.mlp"),
    ("timm/swin", 64, "layers.1"),
    ("timm/eva02", 56, "blocks.2"),  # its positions cross every cut
    ("timm/mixer", 64, "blocks.2"),
    ("timm/test_maxvit", 160, "stages.2"),
    ("timm/test_nfnet", 160, "stages.2"),
]


def small_classifier(make: Callable[..., nn.Module]) -> nn.Module:
    """A network whose classifier has 32 channels in the place of 4096."""
    wide = nn.Linear

    def narrow(inputs: int, outputs: int) -> nn.Linear:
        return wide(32 if inputs == 4096 else inputs, 32 if outputs == 4096 else outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn, "Linear", narrow)
        return make()


# Networks of a family, but small.
SMALL: dict[str, Callable[[], nn.Module]] = {
    "alexnet": lambda: small_classifier(models.alexnet),
    "vgg11": lambda: small_classifier(partial(models.vgg11, init_weights=False)),
    "vit": lambda: VisionTransformer(32, 16, 4, 2, 32, 64),
    "maxvit": lambda: MaxVit((64, 64), 16, 4, [16, 32], [1, 2], 8, 0.2),
    "swin": lambda: models.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4]),
    "swin_v2": lambda: models.SwinTransformer(
        *([4, 4], 16, [2, 2], [2, 2], [4, 4]),
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    ),
    "timm/vit": lambda: timm.models.VisionTransformer(32, 8, embed_dim=32, depth=4, num_heads=2),
    "timm/swin": lambda: timm.models.SwinTransformer(
        64, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 2)
    ),
    "timm/eva02": lambda: timm.models.Eva(
        *(56, 14),
        embed_dim=48,
        depth=4,
        num_heads=3,
        mlp_ratio=8 / 3,
        swiglu_mlp=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
    ),
    "timm/mixer": lambda: timm.models.MlpMixer(img_size=64, num_blocks=4, embed_dim=32),
}
SMALL["timm/vit inside"] = SMALL["timm/vit"]


def network(name: str, size: int) -> nn.Module:
    if name in {"inception_v3", "googlenet"}:  # their own initialisation takes half a minute
        torch.manual_seed(0)
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
        whole: nn.Module = models.get_model(name, weights=None, **options)
    elif make := SMALL.get(name):
        torch.manual_seed(0)
        whole = make()
    else:
        whole = backbones.blank(name, {}, size, seed=0).network
    torch.manual_seed(2)
    for module in whole.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, and not the identity
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return without_zeros(whole)


def without_zeros(whole: nn.Module) -> nn.Module:
    """The network in evaluation mode, its initial zeros replaced: they would hide differences."""
    for value in whole.parameters():
        if not value.any() or (value.ndim == 3 and value.shape[1:] == (1, 1)):
            value.data.normal_(0, 0.1)
    return whole.eval()


def random_images(size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def halves(whole: nn.Module, first: str, size: int) -> tuple[nn.Module, nn.Module]:
    parts = cut(whole, first, size)
    assert parts.prefix is not None
    return parts.prefix, parts.suffix


def train_from(whole: nn.Module, first: str, images: Tensor) -> None:
    """Freeze the network, except the modules that start when `first` does, or later."""
    started: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: started.append(module))
        for module in whole.modules()
    ]
    with torch.no_grad():
        whole(images)
    for handle in handles:
        handle.remove()
    at = started.index(whole.get_submodule(first))
    late, early = set(started[at:]), set(started[:at])
    assert not late & early
    whole.requires_grad_(False).eval()
    for name, module in whole.named_modules():
        while module not in late | early:  # its parent uses its weights, and does not call it
            name = name.rpartition(".")[0]
            module = whole.get_submodule(name)
        if module in late:
            for child in whole.get_submodule(name).modules():
                child.training = True
            whole.get_submodule(name).requires_grad_(True)


def gradients(output: Tensor, whole: nn.Module) -> dict[str, Tensor]:
    """Gradients by parameter name; removes them from the network."""
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(3)) - 0.5
    (output * weights).sum().backward()  # type: ignore[no-untyped-call]
    values = {
        name: value.grad for name, value in whole.named_parameters() if value.grad is not None
    }
    whole.zero_grad()
    return values


def restore(whole: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Set the statistics of batch norms back."""
    for key, value in buffers.items():
        whole.get_buffer(key).copy_(value)


@pytest.mark.parametrize(("name", "size", "module"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_both_halves_give_the_scores_and_gradients_of_the_whole_bit_for_bit(
    name: str, size: int, module: str
) -> None:
    whole = network(name, size)
    images = random_images(size)
    buffers = {key: value.clone() for key, value in whole.named_buffers()}
    with torch.no_grad():
        expected = whole(images)
    for first in (backbones.last_layer(whole, name), module):
        train_from(whole, first, images)
        torch.manual_seed(4)
        expected_training = whole(images)
        of_whole = gradients(expected_training, whole)
        restore(whole, buffers)

        prefix, suffix = halves(whole, first, size)
        with torch.no_grad():
            values = prefix(images)
            assert torch.equal(suffix.eval()(*values), expected)
        torch.manual_seed(4)
        scores = suffix.train()(*values)
        assert torch.equal(scores, expected_training)
        of_halves = gradients(scores, whole)
        assert of_halves.keys() == of_whole.keys() != set()
        for key, value in of_halves.items():
            assert torch.equal(value, of_whole[key]), key
        restore(whole, buffers)


def test_vit_is_cut_at_its_own_size() -> None:
    whole = network("vit", 32)
    prefix, suffix = halves(whole, "encoder.layers.encoder_layer_3", 32)
    images = random_images(32)
    with torch.no_grad():
        assert torch.equal(suffix(*prefix(images)), whole(images))
    with pytest.raises(PipelineError, match=r"cannot take images.size=64 \(Wrong image height"):
        check_size(whole, 64)


def test_the_suffix_trains_the_network_itself_and_the_prefix_is_frozen() -> None:
    whole = network("resnet18", 64)
    _, suffix = halves(whole, "layer4", 64)
    trained = {name for name, value in whole.named_parameters() if value.requires_grad}
    assert trained == {
        name for name, _ in whole.named_parameters() if name.startswith(("layer4.", "fc."))
    }
    assert set(dict(suffix.named_parameters())) == trained
    assert suffix.get_parameter("fc.weight") is whole.get_parameter("fc.weight")


def test_a_module_on_both_sides_trains_in_the_suffix_only() -> None:
    """Blocks of swin use one StochasticDepth twice, here on both sides of the cut."""
    whole = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], stochastic_depth_prob=0.9)
    prefix, suffix = halves(whole.eval(), "features.3.0.mlp", 64)
    images = random_images(64, 16)
    with torch.no_grad():
        before = prefix(images)
        suffix.train()
        for value, again in zip(before, prefix(images), strict=True):
            assert torch.equal(value, again)
        assert not torch.equal(suffix(*before), suffix(*before))


class _Twice(nn.Module):
    """One layer runs twice, around `middle`."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.middle, self.last = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        values = self.shared(self.middle(self.shared(images)))
        scores: Tensor = self.last(values.mean((2, 3)))
        return scores


def test_weights_that_run_on_both_sides_cannot_be_half_frozen() -> None:
    """A model stores them once: the frozen half would be loaded with the trained weights."""
    with pytest.raises(PipelineError, match=r"shared runs both before model.trainable=middle and"):
        cut(_Twice(), "middle", 16)


class _Optional(nn.Module):
    """An optional argument, as some networks of timm have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        values = self.conv(images).mean((2, 3))
        if mask is not None:
            values = values * mask
        scores: Tensor = self.last(values)
        return scores


def test_optional_arguments_of_the_network_keep_their_defaults() -> None:
    whole = _Optional()
    prefix, suffix = halves(whole, "last", 16)
    images = random_images(16)
    assert torch.equal(suffix(*prefix(images)), whole(images))


def test_a_network_that_is_traced_wrongly_is_cut_before_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = timm.create_model("test_resnet", num_classes=2).eval()
    images = random_images(96)
    expected = whole(images)
    trace = tracing.trace

    def mistrace(network: nn.Module, first: str = "") -> fx.Graph:
        graph = trace(network, first)
        for node in graph.nodes:
            if node.op == "call_module" and node.target == "conv1.3":
                node.target = "another"
        return graph

    whole.add_module("another", nn.Conv2d(16, 16, 3, padding=1))
    monkeypatch.setattr(cutting, "trace", mistrace)
    prefix, suffix = halves(whole, "fc", 96)
    assert torch.equal(suffix(*prefix(images)), expected)
    with pytest.raises(PipelineError, match=r"cut at model.trainable=layer4 .* other scores"):
        cut(whole, "layer4", 96)  # which ends nothing


RANDOM = [
    ("densenet", "features.denseblock2", lambda: models.DenseNet(8, (2, 2), 8, drop_rate=0.5)),
    (
        "densenet_inside",
        "features.denseblock2.denselayer2.conv1",
        lambda: models.DenseNet(8, (2, 2), 8, drop_rate=0.5),
    ),
    (
        "convnext",
        "features.7",
        lambda: models.convnext_tiny(stochastic_depth_prob=0.9, weights=None),
    ),
    (
        "swin_attention",
        "features.3",
        lambda: models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], 4.0, 0.0, 0.5, 0.0),
    ),
    (
        "vit_attention",
        "encoder.layers.encoder_layer_1",
        lambda: VisionTransformer(64, 16, 2, 2, 32, 64, 0.0, 0.5),
    ),
    ("vgg", "classifier", lambda: small_classifier(partial(models.vgg11, init_weights=False))),
    ("timm_path", "stages.2", lambda: timm.create_model("test_convnext", drop_path_rate=0.9)),
    ("timm_function", "global_pool", lambda: timm.create_model("test_efficientnet", drop_rate=0.5)),
    ("timm_attention", "blocks.5", lambda: timm.create_model("test_vit", attn_drop_rate=0.5)),
]


@pytest.mark.parametrize(("_", "first", "make"), RANDOM, ids=[r[0] for r in RANDOM])
def test_dropout_in_the_suffix_is_active_in_training_only(
    _: str, first: str, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    whole = without_zeros(make())
    size = 160 if "timm" in _ else 64
    images = random_images(size, 8)
    with torch.no_grad():
        expected = whole(images)
        prefix, suffix = halves(whole, first, size)
        values = prefix(images)
        assert torch.equal(suffix.eval()(*values), expected)
        for module in suffix.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # so that only dropout differs
        scores, again = suffix(*values), suffix(*values)
        assert not torch.equal(scores, again)
        assert not torch.equal(scores, expected)
        assert torch.equal(suffix.eval()(*values), expected)


@pytest.mark.parametrize("first", ["", "features", "features.0.0"])
def test_nothing_is_frozen_when_training_begins_at_the_start(first: str) -> None:
    whole = network("mobilenet_v2", 32)
    parts = cut(whole, first, 32)
    assert parts.prefix is None
    assert parts.suffix is whole


def test_an_unknown_module_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(PipelineError, match=r"trainable=layer9 .* conv1, .* layer4, .* fc"):
        cut(network("resnet18", 32), "layer9", 32)


class _SumsBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        total = self.first(images).sum()  # over the batch: no longer one value per image
        scores: Tensor = self.last(total * torch.ones(4))
        return scores


def test_a_cut_through_a_value_that_is_not_per_image_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"cannot be cut at model.trainable=last: a value"):
        cut(_SumsBatch(), "last", 16)


class _Counting(nn.Module):
    """Sizes, a number of images and a learned constant cross the cut before `last`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.places = nn.Parameter(torch.rand(4))
        self.last = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images)
        shape = values.shape
        places = self.places.exp()
        pixels = values.flatten(2).transpose(1, 2).reshape(shape[0] * shape[2] * shape[3], 4)
        rows = pixels.reshape(shape[0], -1, 4)
        scores: Tensor = self.last(rows) + places[:2]
        return scores.reshape(shape[0], shape[2] * shape[3], 2).mean(1)


def test_sizes_and_constants_become_part_of_the_suffix() -> None:
    whole = _Counting()
    prefix, suffix = halves(whole, "last", 16)
    images = random_images(16, 5)
    assert len(prefix(images)) == 1
    assert torch.equal(suffix(*prefix(images)), whole(images))
    assert set(suffix.state_dict()) == {"last.weight", "last.bias"}
    assert not whole.places.requires_grad


class _Branching(nn.Module):
    """torch.fx cannot trace branches on values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        values = self.first(images).mean((2, 3))
        if values.sum() > 1000:
            values = -values
        scores: Tensor = self.last(values)
        return scores


def test_a_network_that_cannot_be_traced_is_cut_before_its_head_only() -> None:
    whole = _Branching()
    prefix, suffix = halves(whole, "last", 16)
    images = random_images(16)
    assert suffix is whole.last
    assert torch.equal(suffix(*prefix(images)), whole(images))
    assert not any(value.requires_grad for value in prefix.parameters())
    for first in ("first", "nowhere"):
        with pytest.raises(PipelineError, match=rf"trainable={first} \(torch.fx: .*head or all$"):
            cut(_Branching(), first, 16)


class _Checking(nn.Module):
    """Its own code raises an error where a proxy of torch.fx stands in the place of a tensor."""

    def __init__(self, check: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.check = check

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        scores: Tensor = self.last(self.first(images).mean((2, 3)))
        return scores


def _raise_value_error(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ValueError("expected a tensor")


def _assert_tensor(images: Tensor) -> None:
    assert isinstance(images, Tensor)


@pytest.mark.parametrize(
    "check",
    [
        _raise_value_error,
        _assert_tensor,
        lambda images: {torch.Size((16, 16)): 1}[images.shape[2:]],
        len,
        lambda images: range(images.shape[0]),
    ],
    ids=["ValueError", "AssertionError", "KeyError", "RuntimeError", "TypeError"],
)
def test_whatever_a_network_raises_while_it_is_traced_it_is_cut_before_its_head(
    check: Callable[[Tensor], object],
) -> None:
    whole = _Checking(check)
    prefix, suffix = halves(whole, "last", 16)
    images = random_images(16)
    assert suffix is whole.last
    assert torch.equal(suffix(*prefix(images)), whole(images))


class _Masked(nn.Module):
    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        return values if mask is None else values * mask


class _Pooled(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * values.mean((2, 3), keepdim=True)


class _Asserting(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        assert values.ndim == 4
        return values


class _Around(_Branching):
    """Has a module in its middle."""

    def __init__(self, middle: nn.Module, call: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.middle, self.call = middle, call

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.call(self.middle, images))


def _call(module: nn.Module, values: Tensor) -> Tensor:
    result: Tensor = module(values)
    return result


@pytest.mark.parametrize(
    ("middle", "call"),
    [
        (nn.Conv2d(3, 3, 1), _call),
        (_Asserting(), _call),
        (nn.BatchNorm2d(3), _call),
        (_Pooled(), _call),
        (_Masked(), lambda module, values: module(values, None)),
        (nn.Upsample(8), lambda module, values: module(values)[..., : module.size]),
    ],
    ids=["RuntimeError", "Assertion", "ValueError", "IndexError", "TypeError", "AttributeError"],
)
def test_whatever_an_untraceable_network_raises_it_is_not_cut_in_its_middle(
    middle: nn.Module, call: Callable[[Any, Tensor], Tensor]
) -> None:
    with pytest.raises(PipelineError, match=r"cannot be cut at model.trainable=middle"):
        cut(_Around(middle, call), "middle", 16)


def test_a_module_inside_an_untraceable_one_is_refused_with_its_name() -> None:
    whole = timm.create_model("mobilevit_xxs")
    name = next(n for n, m in whole.named_modules() if type(m).__name__ == "MobileVitBlock")
    with pytest.raises(
        PipelineError, match=rf"is inside of {name}, which cannot be cut: use {name}"
    ):
        cut(whole, f"{name}.conv_proj", 64)
