from collections.abc import Callable, Iterator

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torchvision import models
from torchvision.models.maxvit import MaxVit
from torchvision.models.vision_transformer import VisionTransformer

from pipeline.core.errors import PipelineError
from pipeline.network import backbones
from pipeline.network import cut as cutting
from pipeline.network.cut import check_size, cut

# One of each family that is built differently; its side in pixels, and a module well before the
# head. Small ones, where all of a family are one class.
FAMILIES = [
    ("alexnet", 64, "features.8"),
    ("vgg11", 32, "features.16"),
    ("resnet18", 64, "layer3.1"),
    ("resnext50_32x4d", 64, "layer4"),
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
    ("swin_t", 64, "features.5"),
    ("swin_v2_t", 64, "features.7.0"),
    ("maxvit", 64, "blocks.1"),
    ("cifar_cnn", 32, "classifier"),
    ("resnet9", 32, "layer2"),
    ("timm/resnet18", 64, "layer3"),
    ("timm/efficientnet_b0", 64, "blocks.5"),
    ("timm/mobilenetv3_small_050", 64, "blocks.3"),
    ("timm/convnext_atto", 64, "stages.2"),
    ("timm/mobileone_s0", 64, "stages.3"),
    ("timm/vit_tiny_patch16_224", 224, "blocks.9"),
    ("timm/deit_tiny_patch16_224", 224, "blocks.10.mlp"),
    ("timm/swin_tiny_patch4_window7_224", 224, "layers.3"),
    ("timm/eva02_tiny_patch14_224", 224, "blocks.10"),  # its positions cross every cut
    ("timm/mixer_s32_224", 224, "blocks.6"),
    ("timm/test_maxvit", 160, "stages.2"),
    ("timm/test_nfnet", 160, "stages.2"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What runs beside these tests does not slow them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(name: str, size: int) -> nn.Module:
    if name in {"inception_v3", "googlenet"}:  # their own initialisation takes half a minute
        torch.manual_seed(0)
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
        built: nn.Module = models.get_model(name, weights=None, **options)
    elif name == "vit":  # vit_b_16, but small
        torch.manual_seed(0)
        built = VisionTransformer(32, 16, 4, 2, 32, 64)
    elif name == "maxvit":  # maxvit_t, but small
        torch.manual_seed(0)
        built = MaxVit((64, 64), 16, 4, [16, 32], [1, 2], 8, 0.2)
    else:
        built = backbones.blank(name, {}, size, seed=0).network
    torch.manual_seed(2)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, and not the identity
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return stirred(built)


def stirred(built: nn.Module) -> nn.Module:
    """In evaluation mode, without the zeros that some networks start with, which would hide all."""
    for value in built.parameters():
        if not value.any() or (value.ndim == 3 and value.shape[1:] == (1, 1)):
            value.data.normal_(0, 0.1)
    return built.eval()


def pictures(size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def halves(built: nn.Module, first: str, size: int) -> tuple[nn.Module, nn.Module]:
    made = cut(built, first, size)
    assert made.prefix is not None
    return made.prefix, made.suffix


def train_from(built: nn.Module, first: str, images: Tensor) -> None:
    """The whole network, frozen but for the modules that start when `first` does, or later."""
    started: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, _: started.append(module))
        for module in built.modules()
    ]
    with torch.no_grad():
        built(images)
    for handle in handles:
        handle.remove()
    at = started.index(built.get_submodule(first))
    late, early = set(started[at:]), set(started[:at])
    assert not late & early
    built.requires_grad_(False).eval()
    for name, module in built.named_modules():
        while module not in late | early:  # its parent uses its weights, and does not call it
            name = name.rpartition(".")[0]
            module = built.get_submodule(name)
        if module in late:
            for each in built.get_submodule(name).modules():
                each.training = True
            built.get_submodule(name).requires_grad_(True)


def gradients(output: Tensor, built: nn.Module) -> dict[str, Tensor]:
    """By the parameters' names; the network loses them."""
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(3)) - 0.5
    (output * weights).sum().backward()  # type: ignore[no-untyped-call]
    found = {name: value.grad for name, value in built.named_parameters() if value.grad is not None}
    built.zero_grad()
    return found


def restore(built: nn.Module, buffers: dict[str, Tensor]) -> None:
    """What batch norms have seen."""
    for key, value in buffers.items():
        built.get_buffer(key).copy_(value)


@pytest.mark.parametrize(("name", "size", "module"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_both_halves_are_the_whole_network_bit_for_bit_and_in_their_gradients(
    name: str, size: int, module: str
) -> None:
    built = network(name, size)
    images = pictures(size)
    buffers = {key: value.clone() for key, value in built.named_buffers()}
    with torch.no_grad():
        expected = built(images)
    for first in (backbones.last_layer(built, name), module):
        train_from(built, first, images)
        torch.manual_seed(4)
        right = built(images)
        of_whole = gradients(right, built)
        restore(built, buffers)

        prefix, suffix = halves(built, first, size)
        with torch.no_grad():
            values = prefix(images)
            assert torch.equal(suffix.eval()(*values), expected)
        torch.manual_seed(4)
        scores = suffix.train()(*values)
        assert torch.equal(scores, right)
        of_parts = gradients(scores, built)
        assert of_parts.keys() == of_whole.keys() != set()
        for key, value in of_parts.items():
            assert torch.equal(value, of_whole[key]), key
        restore(built, buffers)


def test_vit_is_cut_at_its_own_size() -> None:
    built = network("vit_b_32", 224)
    prefix, suffix = halves(built, "encoder.layers.encoder_layer_11", 224)
    images = pictures(224)
    with torch.no_grad():
        assert torch.equal(suffix(*prefix(images)), built(images))
    with pytest.raises(PipelineError, match=r"cannot take images.size=64 \(Wrong image height"):
        check_size(built, 64)


def test_the_suffix_trains_the_network_itself_and_the_prefix_is_frozen() -> None:
    built = network("resnet18", 64)
    _, suffix = halves(built, "layer4", 64)
    trained = {name for name, value in built.named_parameters() if value.requires_grad}
    assert trained == {
        name for name, _ in built.named_parameters() if name.startswith(("layer4.", "fc."))
    }
    assert set(dict(suffix.named_parameters())) == trained
    assert suffix.get_parameter("fc.weight") is built.get_parameter("fc.weight")


def test_what_runs_on_both_sides_is_trained_on_one() -> None:
    """swin's blocks pass twice through one StochasticDepth, on both sides of this cut."""
    built = models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], stochastic_depth_prob=0.9)
    prefix, suffix = halves(built.eval(), "features.3.0.mlp", 64)
    images = pictures(64, 16)
    with torch.no_grad():
        before = prefix(images)
        suffix.train()
        for one, other in zip(before, prefix(images), strict=True):
            assert torch.equal(one, other)
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
    """A model has one copy of them: saved, the frozen half would not be the one that was trained
    on."""
    with pytest.raises(PipelineError, match=r"shared runs both before model.trainable=middle and"):
        cut(_Twice(), "middle", 16)


class _Optional(nn.Module):
    """As some of timm's: what torch.fx takes for given is never given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        values = self.conv(images).mean((2, 3))
        if mask is not None:
            values = values * mask
        scores: Tensor = self.last(values)
        return scores


def test_what_else_a_network_could_be_called_with_keeps_its_default() -> None:
    built = _Optional()
    prefix, suffix = halves(built, "last", 16)
    images = pictures(16)
    assert torch.equal(suffix(*prefix(images)), built(images))


def test_a_network_that_is_traced_wrongly_is_cut_before_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = timm.create_model("test_resnet", num_classes=2).eval()
    images = pictures(96)
    expected = built(images)
    trace = cutting.trace

    def mistrace(network: nn.Module, first: str = "") -> fx.Graph:
        graph = trace(network, first)
        for node in graph.nodes:
            if node.op == "call_module" and node.target == "conv1.3":
                node.target = "another"
        return graph

    built.add_module("another", nn.Conv2d(16, 16, 3, padding=1))
    monkeypatch.setattr(cutting, "trace", mistrace)
    prefix, suffix = halves(built, "fc", 96)
    assert torch.equal(suffix(*prefix(images)), expected)
    with pytest.raises(PipelineError, match=r"cut at model.trainable=layer4 .* other scores"):
        cut(built, "layer4", 96)  # which ends nothing


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
    ("vgg", "classifier", lambda: models.vgg11()),
    ("timm_path", "stages.2", lambda: timm.create_model("test_convnext", drop_path_rate=0.9)),
    ("timm_function", "global_pool", lambda: timm.create_model("test_efficientnet", drop_rate=0.5)),
    ("timm_attention", "blocks.5", lambda: timm.create_model("test_vit", attn_drop_rate=0.5)),
]


@pytest.mark.parametrize(("_", "first", "make"), RANDOM, ids=[r[0] for r in RANDOM])
def test_what_drops_in_the_suffix_drops_while_training_alone(
    _: str, first: str, make: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    built = stirred(make())
    size = 160 if "timm" in _ else 64
    images = pictures(size, 8)
    with torch.no_grad():
        expected = built(images)
        prefix, suffix = halves(built, first, size)
        values = prefix(images)
        assert torch.equal(suffix.eval()(*values), expected)
        for module in suffix.train().modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # what differs is by chance alone
        one, other = suffix(*values), suffix(*values)
        assert not torch.equal(one, other)
        assert not torch.equal(one, expected)
        assert torch.equal(suffix.eval()(*values), expected)


@pytest.mark.parametrize("first", ["", "features", "features.0.0"])
def test_nothing_is_frozen_when_training_begins_at_the_start(first: str) -> None:
    built = network("mobilenet_v2", 32)
    made = cut(built, first, 32)
    assert made.prefix is None
    assert made.suffix is built


def test_an_unknown_module_is_named_together_with_those_there_are() -> None:
    with pytest.raises(PipelineError, match=r"trainable=layer9 .* conv1, .* layer4, .* fc"):
        cut(network("resnet18", 32), "layer9", 32)


class _Shapely(nn.Module):
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
        cut(_Shapely(), "last", 16)


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


def test_sizes_and_constants_are_told_to_the_suffix() -> None:
    built = _Counting()
    prefix, suffix = halves(built, "last", 16)
    images = pictures(16, 5)
    assert len(prefix(images)) == 1
    assert torch.equal(suffix(*prefix(images)), built(images))
    assert set(suffix.state_dict()) == {"last.weight", "last.bias"}
    assert not built.places.requires_grad


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


def test_a_network_that_cannot_be_traced_is_cut_before_its_head_alone() -> None:
    built = _Branching()
    prefix, suffix = halves(built, "last", 16)
    images = pictures(16)
    assert suffix is built.last
    assert torch.equal(suffix(*prefix(images)), built(images))
    assert not any(value.requires_grad for value in prefix.parameters())
    for first in ("first", "nowhere"):
        with pytest.raises(PipelineError, match=rf"trainable={first} \(torch.fx: .*head or all$"):
            cut(_Branching(), first, 16)


def test_inside_of_what_cannot_be_cut_the_sentence_names_what_can() -> None:
    whole = timm.create_model("mobilevit_xxs")
    name = next(n for n, m in whole.named_modules() if type(m).__name__ == "MobileVitBlock")
    with pytest.raises(
        PipelineError, match=rf"is inside of {name}, which cannot be cut: use {name}"
    ):
        cut(whole, f"{name}.conv_proj", 64)
