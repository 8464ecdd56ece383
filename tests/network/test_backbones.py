from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, torchvision_models, weights
from pipeline.network.backbones import Backbone
from pipeline.network.cut import cut
from pipeline.params import Params, with_overrides


def build(params: Params, seed: int = 1, size: int = 32, **overrides: object) -> Backbone:
    """An untrained squeezenet, unless `overrides` say otherwise."""
    values = {"backbone": "squeezenet1_1", "weights": "none"} | overrides
    changed = with_overrides(params, {f"model.{key}": value for key, value in values.items()})
    return backbones.build(changed.model, size, seed)


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet9_narrow", "timm/test_resnet"])
def test_random_weights_are_a_function_of_the_seed(params: Params, name: str) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        list(build(params, seed, backbone=name).network.parameters()) for seed in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_mobilenets_imagenet_weights_are_installed(
    params: Params,
) -> None:
    backbone = build(params, backbone="mobilenet_v2", weights="imagenet")
    assert backbone.pretrained
    assert (backbone.usual.size, backbone.usual.resize) == (224, 256)
    assert backbone.usual.mean == [0.485, 0.456, 0.406]
    assert (
        backbone.network.get_parameter("features.0.0.weight").std() > 0.1
    )  # not an initialisation


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet19", r"resnet19 is not a torchvision classifier.*resnet18"),
        ("timm/resnet19", r"timm/resnet19 is not a model of timm.*timm/resnet18"),
        (
            "qqqq",
            r"qqqq is not a torchvision classifier, .*some that are: resnet18, mobilenet_v2",
        ),
    ],
)
def test_an_unknown_backbone_is_refused_with_similar_names(
    params: Params, name: str, sentence: str
) -> None:
    with pytest.raises(PipelineError, match=sentence):
        build(params, backbone=name)


def test_ours_have_no_imagenet_weights(params: Params) -> None:
    with pytest.raises(PipelineError, match="resnet9 has no ImageNet weights: set"):
        build(params, backbone="resnet9", weights="imagenet")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_state_dict_may_have_other_classes_than_imagenet(
    params: Params, tmp_path: Path, suffix: str
) -> None:
    source = models.squeezenet1_1(num_classes=7)
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(source.state_dict(), path)
    backbone = build(params, weights=str(path))
    assert backbone.pretrained
    name = "features.3.squeeze.weight"
    assert torch.equal(backbone.network.get_parameter(name), source.get_parameter(name))


def test_mnasnet_takes_weights_that_do_not_say_their_version(
    params: Params, tmp_path: Path
) -> None:
    source = models.mnasnet0_5()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    backbone = build(params, backbone="mnasnet0_5", weights=str(tmp_path / "weights.safetensors"))
    name = "layers.0.weight"
    assert torch.equal(backbone.network.get_parameter(name), source.get_parameter(name))


@pytest.mark.parametrize(
    ("name", "module"), [("googlenet", "inception4b"), ("inception_v3", "Mixed_7b")]
)
def test_weights_with_auxiliary_heads_fit_and_the_cut_is_exact(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    quick = {"init_weights": False}
    source = models.get_model(name, weights=None, aux_logits=True, transform_input=True, **quick)
    assert any(key.startswith(torchvision_models.AUXILIARY) for key in source.state_dict())
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    make = models.get_model  # their own initialisation takes half a minute
    monkeypatch.setattr(
        models, "get_model", lambda *args, **options: make(*args, **options | quick)
    )
    path = str(tmp_path / "weights.safetensors")
    network = build(params, size=96, backbone=name, weights=path).network
    images = torch.rand(2, 3, 96, 96)
    halves = cut(network, module, 96)
    assert halves.prefix is not None
    with torch.no_grad():
        assert torch.equal(halves.suffix(*halves.prefix(images)), source.eval()(images))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    params: Params, tmp_path: Path, value: float
) -> None:
    path, state = tmp_path / "weights.safetensors", models.squeezenet1_1().state_dict()
    state["features.0.bias"][3] = value
    save_file(state, path)
    with pytest.raises(PipelineError, match=r"is damaged: features\.0\.bias has values"):
        build(params, weights=str(path))


def test_weights_of_another_network_are_refused(params: Params, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(models.resnet18().state_dict(), path)
    with pytest.raises(
        PipelineError, match=r"does not fit model.backbone=squeezenet1_1: \d+ names"
    ):
        build(params, weights=str(path))
    with pytest.raises(PipelineError, match=r"does not fit model.backbone=resnet34"):
        build(params, backbone="resnet34", weights=str(path))
    save_file(models.squeezenet1_0().state_dict(), path)
    with pytest.raises(
        PipelineError, match=r"does not fit model.backbone=squeezenet1_1: "
    ) as error:
        build(params, weights=str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("mobilenet_v2", "classifier.1"),
        ("vgg11", "classifier.6"),
        ("resnet18", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("swin_t", "head"),
    ],
)
def test_the_last_layer_computes_the_scores(name: str, layer: str) -> None:
    with torch.device("meta"):
        assert backbones.last_layer(models.get_model(name, weights=None), name) == layer


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_imagenet_weights_of_networks_with_auxiliary_heads_leave_these_out(
    params: Params, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = models.get_model(name, weights=None, init_weights=False, transform_input=True)
    enum = models.get_model_weights(name).IMAGENET1K_V1
    monkeypatch.setattr(type(enum), "get_state_dict", lambda *_, **__: whole.state_dict())
    monkeypatch.setattr(weights, "imagenet", lambda _: enum)
    backbone = build(params, backbone=name, weights="imagenet")
    state = backbone.network.state_dict()
    assert state.keys() < whole.state_dict().keys()
    assert not any(key.startswith(torchvision_models.AUXILIARY) for key in state)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(backbone.network.eval()(images), whole.eval()(images))
    again = backbones.blank(name, backbone.options, 96, seed=1).network
    again.load_state_dict(state)  # as a saved model is read
    with torch.no_grad():
        assert torch.equal(again.eval()(images), whole.eval()(images))


def test_weights_that_end_in_a_head_of_several_layers_load_without_it(
    params: Params, tmp_path: Path
) -> None:
    network = models.resnet18()
    network.fc = torch.nn.Sequential(torch.nn.Linear(512, 8), torch.nn.Linear(8, 2))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = build(params, backbone="resnet18", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(backbone.network.get_parameter("conv1.weight"), network.conv1.weight)
