import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from pipeline import model, params
from pipeline.errors import PipelineError
from pipeline.params import Head, Params


def card(**changes: object) -> model.Card:
    facts = {
        "backbone": "squeezenet1_1", "options": {}, "head": "linear", "trained_from": "",
        "classes": ["a", "b"], "max_megapixels": 50.0, "store_side": 400,
        "preprocess": model.USUAL, "fingerprint": "0",
    }  # fmt: skip
    return model.Card.model_validate(facts | changes)


def built(settings: Params, seed: int = 1, **overrides: object) -> model.Backbone:
    """An untrained squeezenet, unless `overrides` say otherwise."""
    chosen = {"backbone": "squeezenet1_1", "weights": "none"} | overrides
    changed = params.with_overrides(settings, {f"model.{k}": v for k, v in chosen.items()})
    return model.backbone(changed.model, seed)


def test_random_weights_are_a_function_of_the_seed(settings: Params) -> None:
    first, again = (built(settings, seed=3).network for _ in range(2))
    other = built(settings, seed=4).network
    name = "features.0.weight"
    assert torch.equal(first.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_imagenet_weights_come_with_the_environment_and_know_their_preparation(
    settings: Params,
) -> None:
    found = built(settings, backbone="mobilenet_v2", weights="imagenet")
    assert found.usual.size == 224
    assert found.usual.resize == 256
    assert found.usual.mean == [0.485, 0.456, 0.406]
    assert found.network.get_parameter("features.0.0.weight").std() > 0.1  # not an initialisation


def test_an_unknown_backbone_is_told_with_close_names(settings: Params) -> None:
    with pytest.raises(PipelineError, match=r"resnet19 is no torchvision classifier.*resnet18"):
        built(settings, backbone="resnet19")


def test_a_state_dict_may_have_other_classes_than_imagenet(
    settings: Params, tmp_path: Path
) -> None:
    source = models.squeezenet1_1(num_classes=7)
    path = tmp_path / "weights.safetensors"
    save_file(source.state_dict(), path)
    found = built(settings, weights=str(path)).network
    name = "features.3.squeeze.weight"
    assert torch.equal(found.get_parameter(name), source.get_parameter(name))


def test_weights_of_another_network_are_refused(settings: Params, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(models.resnet18().state_dict(), path)
    with pytest.raises(PipelineError, match=r"does not fit model.backbone=squeezenet1_1"):
        built(settings, weights=str(path))


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
def test_the_head_takes_the_place_of_the_last_layer(name: str, layer: str) -> None:
    network = models.get_model(name, weights=None)
    assert model.last_layer(network) == layer
    assert model.trained_from(network, "head") == layer
    model.replace_head(network, Head(kind="linear"), classes=3, seed=1)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_all_and_module_names_pass_through() -> None:
    network = nn.Sequential(nn.Linear(4, model.IMAGENET_CLASSES))
    assert model.trained_from(network, "all") == ""
    assert model.trained_from(network, "layer3") == "layer3"


def test_preparation_scales_with_the_size(settings: Params) -> None:
    half = settings.images.model_copy(update={"size": 112})
    assert model.preprocess(half, model.USUAL).resize == 128
    plain = settings.images.model_copy(update={"normalise": "none"})
    assert model.preprocess(plain, model.USUAL).mean == [0.0, 0.0, 0.0]


def test_what_is_saved_loads_to_the_same_scores_and_the_same_bytes(
    settings: Params, tmp_path: Path
) -> None:
    network = built(settings).network
    model.replace_head(network, settings.head, 2, seed=1)
    for name in ("first", "second"):
        model.save(tmp_path / name, network, card())
    loaded, read = model.load(tmp_path / "first")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), network.eval()(images))
    assert read == card()
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_no_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no model in .*dvc repro"):
        model.load(tmp_path)


@pytest.mark.parametrize("damage", ["weights", "json", "foreign"])
def test_a_damaged_model_is_one_sentence(settings: Params, tmp_path: Path, damage: str) -> None:
    network = built(settings).network
    model.replace_head(network, settings.head, 2, seed=1)
    model.save(tmp_path / "m", network, card())
    if damage == "weights":
        (tmp_path / "m/model.safetensors").write_bytes(b"not safetensors")
    elif damage == "json":
        (tmp_path / "m/model.json").write_text("{}")
    else:
        facts = json.loads((tmp_path / "m/model.json").read_text())
        (tmp_path / "m/model.json").write_text(json.dumps(facts | {"classes": ["a", "b", "c"]}))
    with pytest.raises(PipelineError, match="is damaged") as error:
        model.load(tmp_path / "m")
    assert "\n" not in str(error.value)
