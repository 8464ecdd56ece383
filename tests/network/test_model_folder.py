import json
import re
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


def test_a_model_of_an_older_version_prepares_images_as_it_was_trained(tmp_path: Path) -> None:
    """A training is refused that enlarges what it scaled down; a model of one works as before."""
    side = small_models.PREPROCESS.resize - 1
    model_folder.save(tmp_path / "m", build_network(), card(store_side=side))
    assert model_folder.read_card(tmp_path / "m").store_side == side


def test_classes_are_sorted_by_name() -> None:
    assert model_folder.classes_of(["b", "a", "b"]) == ["a", "b"]


PREPROCESS = small_models.PREPROCESS.model_dump()
NOT_A_NUMBER, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("temperature", [0, -1.0, 1e-300, 1e300, NOT_A_NUMBER, INFINITE, True, "1"]),
        ("store_side", [-7, 0, 2.5, NOT_A_NUMBER, None]),
        ("max_megapixels", [0, -1.0, 1e9, NOT_A_NUMBER, INFINITE]),
        ("preprocess.std", [[0, 0, 0], [0.5, 0.5, -0.5], [0.5] * 2, [0.5, 0.5, NOT_A_NUMBER], 0.5]),
        ("preprocess.mean", [[0.5] * 4, [0.5, 0.5, INFINITE], [1e9] * 3, []]),
        ("preprocess.size", [0, -32, 10**9, 32.0]),
        ("preprocess.resize", [0, 16, 10**9]),
        ("preprocess.interpolation", ["lanczos", "", "bilinear ", 1]),
        ("classes", [["a", "a"], ["a", ""], ["a"], [], ["\u00e9", "e\u0301"], ["a", None], "ab"]),
        ("head.dropout", [1.0, -0.1, NOT_A_NUMBER]),
        ("head.hidden", [0, -1, 10**9]),
        ("backbone", [""]),
        ("engine", [" ", "onnxruntime 1.0", "openvino", "openvino 1\n", None]),
        ("colour", ["grey"]),
    ],
)
def test_a_card_with_an_impossible_value_is_refused_by_name(
    tmp_path: Path, key: str, values: list[object]
) -> None:
    model_folder.save(tmp_path / "m", build_network(), card())
    file = tmp_path / "m/model.json"
    facts = json.loads(file.read_text())
    for value in values:
        section, _, name = key.rpartition(".")
        changed = {section: facts[section] | {name: value}} if section else {key: value}
        file.write_text(json.dumps(facts | changed))
        with pytest.raises(
            PipelineError, match=rf"is damaged: model\.json: {re.escape(key)}"
        ) as error:
            model_folder.read_card(tmp_path / "m")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b'{"format": 2,', b"\xef\xbb\xbf{}", b"\xff"])
def test_a_card_that_is_no_json_is_a_whole_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(PipelineError, match=r"model\.json: the file is invalid JSON: \w.*; `"):
        model_folder.read_card(tmp_path)


def test_class_names_are_composed(tmp_path: Path) -> None:
    model_folder.save(tmp_path / "m", build_network(), card(classes=["a", "e\u0301"]))
    assert model_folder.read_card(tmp_path / "m").classes == ["a", "\u00e9"]


@pytest.mark.parametrize("value", [NOT_A_NUMBER, INFINITE])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    network = build_network()
    next(network.parameters()).data.view(-1)[5] = value
    model_folder.save(tmp_path / "m", network, card())
    with pytest.raises(PipelineError, match=r"is damaged: features\.0\.weight has values"):
        model_folder.load(tmp_path / "m")


def test_a_class_named_as_the_averages_is_refused() -> None:
    assert model_folder.classes_of(["bee", "ant", "bee"]) == ["ant", "bee"]
    with pytest.raises(PipelineError, match=r"'macro'.*rename"):
        model_folder.classes_of(["bee", "macro"])
