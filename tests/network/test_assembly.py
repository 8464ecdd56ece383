import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.network import assembly
from pipeline.network.assembly import Assembly, NewHead
from pipeline.network.views import Preprocess
from pipeline.params import Params, with_overrides

USUAL = Preprocess(
    size=224,
    resize=256,
    interpolation="bilinear",
    mean=[0.485, 0.456, 0.406],
    std=[0.229, 0.224, 0.225],
)


def assembled(params: Params, **overrides: object) -> Assembly:
    chosen = {"backbone": "resnet18", "weights": "none", "replace": "last", "trainable": "head"}
    named = {f"model.{key}": value for key, value in (chosen | overrides).items()}
    changed = with_overrides(params, named)
    return assembly.assemble(changed.model, changed.images, 1, NewHead(changed.head, 2, 1))


@pytest.mark.parametrize(
    ("trainable", "first", "frozen"),
    [("head", "fc", True), ("layer4", "layer4", True), ("all", "", False)],
)
def test_trainable_says_where_training_begins(
    params: Params, trainable: str, first: str, frozen: bool
) -> None:
    made = assembled(params, trainable=trainable)
    assert (made.trained_from, made.replaced) == (first, "fc")
    assert (made.cut.prefix is not None) == frozen
    trained = {key for key, value in made.network.named_parameters() if value.requires_grad}
    assert {"fc.weight", "fc.bias"} <= trained
    assert all(key.startswith((first, "fc.")) for key in trained)
    assert made.network.eval()(torch.rand(3, 3, 32, 32)).shape == (3, 2)


def test_inside_of_what_is_replaced_nothing_can_begin(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"classifier.3 is inside the module that the head"):
        assembled(params, backbone="squeezenet1_1", replace="classifier", trainable="classifier.3")


def test_a_size_that_the_network_does_not_take_is_one_sentence(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"cannot take images.size=32 \(") as error:
        assembled(params, backbone="vit_b_32")
    assert "\n" not in str(error.value)


def test_a_module_that_is_called_head_can_be_named_too(params: Params) -> None:
    name = "timm/convnext_atto"
    last = assembled(params, backbone=name, trainable="head")
    whole = assembled(params, backbone=name, trainable="module:head")
    assert (last.trained_from, whole.trained_from) == ("head.fc", "head")
    assert assembly.trainable("head") == "module:head"
    assert assembly.trainable("stages.2") == "stages.2"


def test_preparation_scales_with_the_size(params: Params) -> None:
    half = params.images.model_copy(update={"size": 112})
    assert assembly.preprocess_of(half, USUAL).resize == 128
    assert assembly.preprocess_of(half, USUAL).size == 112
    fixed = half.model_copy(update={"resize": 150})
    assert assembly.preprocess_of(fixed, USUAL).resize == 150


@pytest.mark.parametrize(
    ("normalise", "mean", "std"),
    [
        ("weights", USUAL.mean, USUAL.std),
        ("half", [0.5] * 3, [0.5] * 3),
        ("none", [0.0] * 3, [1.0] * 3),
    ],
)
def test_normalise_says_mean_and_deviation(
    params: Params, normalise: str, mean: list[float], std: list[float]
) -> None:
    chosen = params.images.model_copy(update={"normalise": normalise})
    found = assembly.preprocess_of(chosen, USUAL)
    assert (found.mean, found.std) == (mean, std)


def test_after_the_head_nothing_can_begin(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"trainable=classifier.2 runs after the head"):
        assembled(params, backbone="squeezenet1_1", trainable="classifier.2")
