import pytest
import timm
import torch

from pipeline.core.errors import PipelineError
from pipeline.network import timm_models


def test_names_include_architectures_and_weights() -> None:
    names = timm_models.names()
    assert {"resnet18", "resnet18.a1_in1k"} <= set(names)


def test_weights_that_cannot_be_downloaded_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("offline\nand so on")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(PipelineError) as error:
        timm_models.pretrained("resnet18")
    for part in ("timm/resnet18 (offline and so on)", ".cache/huggingface", "model.weights=none"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "last"),
    [("test_resnet", "fc"), ("test_vit", "head"), ("test_convnext", "head.fc")],
)
def test_the_last_layer_computes_the_scores(name: str, last: str) -> None:
    assert timm_models.last_layer(timm_models.build(name, {}, 0)) == last


def test_two_heads_are_refused() -> None:
    network = timm_models.build("levit_128s", {}, 0)
    with pytest.raises(PipelineError, match="does not end in one layer that computes the scores"):
        timm_models.last_layer(network)


def test_a_network_without_a_head_gets_one_and_draws_no_numbers() -> None:
    torch.manual_seed(0)
    network = timm_models.build("eva02_tiny_patch14_224", {}, 0)
    assert timm_models.last_layer(network) == "head"
    assert network.get_parameter("head.weight").shape == (1000, 192)


def test_the_preprocessing_is_that_of_the_weights() -> None:
    preprocess = timm_models.preprocess(timm_models.build("test_vit", {}, 0), "")
    assert (preprocess.size, preprocess.resize, preprocess.interpolation) == (160, 168, "bicubic")
    assert preprocess.mean == [0.5, 0.5, 0.5]
    assert preprocess.std == [0.5, 0.5, 0.5]
