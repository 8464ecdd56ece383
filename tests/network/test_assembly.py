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


def assemble(params: Params, **overrides: object) -> Assembly:
    values = {"backbone": "resnet18", "weights": "none", "replace": "last", "trainable": "head"}
    named = {f"model.{key}": value for key, value in (values | overrides).items()}
    changed = with_overrides(params, named)
    return assembly.assemble(changed.model, changed.images, 1, NewHead(changed.head, 2, 1))


@pytest.mark.parametrize(
    ("trainable", "first", "frozen"),
    [("head", "fc", True), ("layer4", "layer4", True), ("all", "", False)],
)
def test_trainable_is_where_training_begins(
    params: Params, trainable: str, first: str, frozen: bool
) -> None:
    assembly_ = assemble(params, trainable=trainable)
    assert (assembly_.trained_from, assembly_.replaced) == (first, "fc")
    assert (assembly_.cut.prefix is not None) == frozen
    trained = {key for key, value in assembly_.network.named_parameters() if value.requires_grad}
    assert {"fc.weight", "fc.bias"} <= trained
    assert all(key.startswith((first, "fc.")) for key in trained)
    assert assembly_.network.eval()(torch.rand(3, 3, 32, 32)).shape == (3, 2)


def test_training_cannot_begin_inside_the_replaced_module(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"classifier.3 is inside the module that the head"):
        assemble(params, backbone="squeezenet1_1", replace="classifier", trainable="classifier.3")


def test_a_wrong_size_is_one_sentence(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"cannot take images.size=32 \(") as error:
        assemble(params, backbone="vit_b_32")
    assert "\n" not in str(error.value)


def test_a_module_called_head_can_be_named(params: Params) -> None:
    name = "timm/convnext_atto"
    last = assemble(params, backbone=name, trainable="head")
    whole = assemble(params, backbone=name, trainable="module:head")
    assert (last.trained_from, whole.trained_from) == ("head.fc", "head")
    assert assembly.trainable("head") == "module:head"
    assert assembly.trainable("stages.2") == "stages.2"


def test_the_resize_scales_with_the_size(params: Params) -> None:
    half = params.images.model_copy(update={"size": 112})
    assert assembly.preprocess_of(half, USUAL).resize == 128
    assert assembly.preprocess_of(half, USUAL).size == 112
    fixed = half.model_copy(update={"resize": 150})
    assert assembly.preprocess_of(fixed, USUAL).resize == 150


def test_the_resize_of_the_weights_counts_for_the_stored_size(params: Params) -> None:
    preprocess = USUAL.model_copy(update={"size": 350, "resize": 400})
    assembly.check_stored_size(preprocess, params.filter)
    larger = USUAL.model_copy(update={"size": 351, "resize": 401})
    with pytest.raises(PipelineError) as caught:
        assembly.check_stored_size(larger, params.filter)
    assert str(caught.value) == (
        "images.size = 351 resizes images to 401 pixels, but filter.store_side = 400: they would "
        "be stored smaller and then enlarged; set filter.store_side=401, or images.resize=400"
    )


@pytest.mark.parametrize(
    ("normalise", "mean", "std"),
    [
        ("weights", USUAL.mean, USUAL.std),
        ("half", [0.5] * 3, [0.5] * 3),
        ("none", [0.0] * 3, [1.0] * 3),
    ],
)
def test_normalise_sets_mean_and_deviation(
    params: Params, normalise: str, mean: list[float], std: list[float]
) -> None:
    images = params.images.model_copy(update={"normalise": normalise})
    preprocess = assembly.preprocess_of(images, USUAL)
    assert (preprocess.mean, preprocess.std) == (mean, std)


def test_training_cannot_begin_after_the_head(params: Params) -> None:
    with pytest.raises(PipelineError, match=r"trainable=classifier.2 runs after the head"):
        assemble(params, backbone="squeezenet1_1", trainable="classifier.2")
