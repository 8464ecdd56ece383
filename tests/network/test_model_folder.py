import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.core.errors import PipelineError
from pipeline.network import backbones, heads, model_folder, small_models
from pipeline.params import HeadParams

HEAD = HeadParams(kind="mlp", hidden=8, dropout=0.5, one_logit=False)


def card(**changes: object) -> model_folder.Card:
    facts = {
        "backbone": "squeezenet1_1",
        "options": {},
        "head": HEAD,
        "replaced": "classifier.1",
        "trained_from": "",
        "classes": ["a", "b"],
        "max_megapixels": 50.0,
        "store_side": 400,
        "preprocess": small_models.PREPROCESS,
        "fingerprint": "0",
    }
    return model_folder.Card.model_validate(facts | changes)


def build_network(name: str = "squeezenet1_1") -> nn.Module:
    """With random weights and a new head for two classes."""
    backbone = backbones.blank(name, {}, 32, seed=1)
    heads.replace(backbone.network, backbone.last, HEAD, 2, 32, seed=1)
    return backbone.network


@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5", "timm/test_resnet"])
def test_a_saved_model_loads_with_the_same_scores_and_bytes(tmp_path: Path, name: str) -> None:
    network = build_network(name)
    last = backbones.blank(name, {}, 32, seed=0).last
    written = card(backbone=name, replaced=last)
    for folder in ("first", "second"):
        model_folder.save(tmp_path / folder, network, written)
    loaded, read = model_folder.load(tmp_path / "first")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))
    assert read == written
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no model in .*dvc repro"):
        model_folder.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"not safetensors",
        {"classes": ["a", "b", "c"]},
        {"options": {"aux_logits": False}},
        {"replaced": "fc"},
        {"format": 3},
    ],
    ids=str,
)
def test_a_damaged_model_is_one_sentence(tmp_path: Path, damage: bytes | dict[str, object]) -> None:
    model_folder.save(tmp_path / "m", build_network(), card())
    if isinstance(damage, bytes):
        (tmp_path / "m/model.safetensors").write_bytes(damage)
    else:
        facts = json.loads((tmp_path / "m/model.json").read_text())
        (tmp_path / "m/model.json").write_text(json.dumps(facts | damage))
    with pytest.raises(PipelineError, match="is damaged") as error:
        model_folder.load(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_a_model_that_enlarges_what_it_scaled_down_is_refused(tmp_path: Path) -> None:
    side = small_models.PREPROCESS.resize
    model_folder.save(tmp_path / "m", build_network(), card(store_side=side))
    assert model_folder.read_card(tmp_path / "m").store_side == side
    file = tmp_path / "m/model.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"store_side": side - 1}))
    with pytest.raises(
        PipelineError, match=f"store_side = {side - 1}: .* filter.store_side={side}"
    ):
        model_folder.read_card(tmp_path / "m")


def test_classes_are_sorted_by_name() -> None:
    assert model_folder.classes_of(["b", "a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("value", ["0", "-1.0", "NaN", "Infinity"])
def test_a_temperature_must_be_positive_and_finite(tmp_path: Path, value: str) -> None:
    model_folder.save(tmp_path / "m", build_network(), card())
    file = tmp_path / "m/model.json"
    text = file.read_text()
    assert '"temperature": 1.0' in text
    file.write_text(text.replace('"temperature": 1.0', f'"temperature": {value}'))
    with pytest.raises(PipelineError, match=r"is damaged: .*temperature"):
        model_folder.load(tmp_path / "m")


def test_a_class_named_as_the_averages_is_refused() -> None:
    assert model_folder.classes_of(["bee", "ant", "bee"]) == ["ant", "bee"]
    with pytest.raises(PipelineError, match=r"'macro'.*rename"):
        model_folder.classes_of(["bee", "macro"])
