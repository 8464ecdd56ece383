from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import VisionTransformer

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, heads
from pipeline.network.cut import cut
from pipeline.params import HeadParams

LINEAR = HeadParams(kind="linear", hidden=8, dropout=0.5, one_logit=False)
MLP = LINEAR.model_copy(update={"kind": "mlp"})
ENDS = [  # the head's input is a vector, a map, or a map with the channels last
    ("resnet18", 32, "last"),
    ("squeezenet1_1", 32, "last"),
    ("squeezenet1_1", 32, "classifier"),
    ("mobilenet_v2", 32, "classifier"),
    ("convnext_tiny", 32, "classifier"),
    ("swin_t", 32, "last"),
    ("vit", 32, "heads"),
    ("cifar_cnn", 32, "classifier"),
    ("resnet9", 32, "last"),
    ("timm/resnet18", 32, "last"),
    ("timm/test_vit", 160, "last"),
    ("timm/test_convnext", 64, "head"),
]


def network(name: str, size: int) -> tuple[nn.Module, str]:
    if name == "vit":  # vit_b_16, but small
        return VisionTransformer(32, 16, 2, 2, 32, 64).eval(), "heads.head"
    backbone = backbones.blank(name, {}, size, seed=0)
    return backbone.network.eval(), backbone.last


@pytest.mark.parametrize(("name", "size", "replace"), ENDS)
def test_every_kind_of_head_fits(name: str, size: int, replace: str) -> None:
    built, last = network(name, size)
    replaced = heads.module_replaced(built, replace, last)
    # squeezenet has a ReLU after its last layer: a logit can only replace the whole classifier.
    logit = [True] if (name, replace) != ("squeezenet1_1", "last") else []
    for one_logit in [False, *logit]:
        for kind in (LINEAR, MLP):
            params = kind.model_copy(update={"one_logit": one_logit})
            old = built.get_submodule(replaced)
            heads.replace(built, replaced, params, 2 if one_logit else 3, size, seed=1)
            new = built.get_submodule(replaced)
            built.eval()
            halves = cut(built, replaced, size)
            images = torch.rand(2, 3, size, size)
            assert halves.prefix is not None
            with torch.no_grad():
                scores = halves.suffix(*halves.prefix(images))
                assert torch.equal(scores, built(images))
            assert scores.shape == (2, 2 if one_logit else 3)
            widths = [len(m.weight) for m in new.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            assert widths == ([8] if kind is MLP else []) + [1 if one_logit else 3]
            heads._put(built, replaced, old)


def test_vggs_classifier_is_replaced_as_a_whole() -> None:
    built, last = network("vgg16", 32)
    assert heads.module_replaced(built, "last", last) == "classifier.6"
    params = HeadParams(kind="mlp", hidden=256, dropout=0.5, one_logit=True)
    heads.replace(built, "classifier", params, 2, 32, seed=1)
    shapes = [tuple(value.shape) for value in built.get_submodule("classifier").parameters()]
    assert shapes == [(256, 25088), (256,), (1, 256), (1,)]


def test_channels_in_the_last_dimension_are_the_input() -> None:
    built, _ = network("timm/swin_tiny_patch4_window7_224", 224)
    heads.replace(built, "head", LINEAR, 3, 224, seed=1)
    assert next(built.get_submodule("head").parameters()).shape == (3, 768)


def test_one_logit_is_binary_cross_entropy() -> None:
    logit = torch.linspace(-30, 30, 20).requires_grad_()
    labels = torch.arange(20) % 2
    scores = heads.OneLogit()(logit[:, None])
    loss = functional.cross_entropy(scores, labels)
    (gradient,) = torch.autograd.grad(loss, logit)
    binary = functional.binary_cross_entropy_with_logits(logit, labels.float())
    (expected,) = torch.autograd.grad(binary, logit)
    torch.testing.assert_close(loss, binary)
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(scores.argmax(1), (logit > 0).long())


def test_one_logit_is_for_two_classes() -> None:
    built, last = network("resnet9_narrow", 32)
    params = LINEAR.model_copy(update={"one_logit": True})
    with pytest.raises(PipelineError, match=r"one_logit is for two classes, but there are 3: set"):
        heads.replace(built, last, params, 3, 32, seed=1)


def test_a_logit_that_the_network_would_change_is_refused() -> None:
    built, last = network("squeezenet1_1", 32)
    params = LINEAR.model_copy(update={"one_logit": True})
    with pytest.raises(PipelineError, match=r"one_logit: the network changes what .*classifier.1"):
        heads.replace(built, last, params, 2, 32, seed=1)


def test_the_weights_depend_on_the_seed_alone() -> None:
    weights = []
    state = torch.random.get_rng_state()
    for seed in (1, 1, 2):
        built, last = network("resnet9_narrow", 32)
        heads.replace(built, last, LINEAR, 3, 32, seed)
        weights.append(built.get_parameter("fc.weight"))
        torch.testing.assert_close(torch.random.get_rng_state(), state, rtol=0, atol=0)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert all(weight.requires_grad and not weight.is_inference() for weight in weights)


class _Odd(nn.Module):
    def __init__(self, middle: nn.Module, forward: Callable[["_Odd", Tensor], Tensor]) -> None:
        super().__init__()
        self.middle, self.fc, self._forward = middle, nn.Linear(3, 2), forward

    def forward(self, images: Tensor) -> Tensor:
        return self._forward(self, images)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("layer1", "model.replace=layer1 does not end the network"),
        ("conv1", "model.replace=conv1 does not end the network"),
        ("layer3.0.bn1", "does not end the network"),
        ("layer1.0.relu", "model.replace=layer1.0.relu runs 2 times"),
    ],
)
def test_a_module_that_does_not_end_the_network_is_refused(name: str, sentence: str) -> None:
    built, _ = network("resnet18", 32)
    with pytest.raises(PipelineError, match=sentence) as error:
        heads.replace(built, name, LINEAR, 3, 32, seed=1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [
        ("squeezenet1_1", 32, "features.11"),  # RuntimeError
        ("timm/test_coatnet", 160, "stages.2.blocks.0.attn"),  # TypeError
        ("timm/test_vit", 160, "patch_embed"),  # AttributeError
    ],
)
def test_whatever_a_network_raises_with_a_head_inside_the_module_is_refused(
    backbone: str, size: int, name: str
) -> None:
    built, _ = network(backbone, size)
    with pytest.raises(PipelineError, match="does not end the network"):
        heads.replace(built, name, LINEAR, 3, size, seed=1)


def test_a_module_with_other_inputs_or_outputs_than_one_tensor_is_refused() -> None:
    def attend(odd: _Odd, images: Tensor) -> Tensor:
        rows = images.mean(2).transpose(1, 2)
        scores: Tensor = odd.fc(odd.middle(rows, rows, rows)[0].mean(1))
        return scores

    with pytest.raises(PipelineError, match="middle does not take one tensor and return one"):
        heads.replace(_Odd(nn.MultiheadAttention(3, 1), attend), "middle", LINEAR, 2, 16, seed=1)

    def rows(odd: _Odd, images: Tensor) -> Tensor:
        scores: Tensor = odd.fc(images.mean(2).transpose(1, 2)).mean(1)
        return scores

    with pytest.raises(PipelineError, match=r"fc takes \(16, 3\) and returns \(16, 2\) per image"):
        heads.replace(_Odd(nn.Identity(), rows), "fc", LINEAR, 2, 16, seed=1)


def test_an_unknown_name_is_refused_with_the_names_that_exist() -> None:
    built, last = network("resnet18", 32)
    with pytest.raises(PipelineError, match=r"model.replace=fc7 names no layer: .* layer4, .*fc$"):
        heads.module_replaced(built, "fc7", last)
    assert heads.module_replaced(built, "last", last) == "fc"
    assert heads.module_replaced(built, "layer4.1", last) == "layer4.1"
