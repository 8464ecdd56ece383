import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipeline.commands.export import onnx as exporting
from pipeline.core.errors import PipelineError
from pipeline.network import model_folder
from tests.builders.models import LINEAR_HEAD, save_untrained, scale_head


@pytest.mark.parametrize("name", ["resnet9_narrow", "cifar_cnn"])
def test_onnxruntime_and_torch_agree_for_any_batch_size(name: str, tmp_path: Path) -> None:
    card = save_untrained(tmp_path / "models", name, LINEAR_HEAD, None, 32)
    worst = exporting.export(tmp_path / "models", tmp_path / "model.onnx", None)
    assert worst < exporting.TOLERANCE
    network, _ = model_folder.load(tmp_path / "models")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 2, 5, 33):
        images = torch.randint(256, (count, 3, 32, 32)).byte()
        (probabilities,) = session.run(None, {"images": images.numpy()})
        with torch.inference_mode():
            scores = network(card.preprocess.normalise(images)) / card.temperature
        assert np.allclose(probabilities, scores.softmax(dim=1).numpy(), atol=1e-5)
    properties = onnx.load(tmp_path / "model.onnx").metadata_props
    metadata = {entry.key: entry.value for entry in properties}
    assert json.loads(metadata["classes"]) == card.classes
    assert json.loads(metadata["preprocess"])["resize"] == card.preprocess.resize
    assert metadata["fingerprint"] == card.fingerprint


def test_probabilities_that_are_no_numbers_are_not_exported(tmp_path: Path) -> None:
    save_untrained(tmp_path / "models", "cifar_cnn", LINEAR_HEAD, None, 32)
    scale_head(tmp_path / "models", 3e38)
    with pytest.raises(PipelineError, match="probabilities that are not numbers"):
        exporting.export(tmp_path / "models", tmp_path / "model.onnx", None)
    assert not (tmp_path / "model.onnx").exists()


def test_a_file_with_other_probabilities_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_untrained(tmp_path / "models", "cifar_cnn", LINEAR_HEAD, None, 32)
    (tmp_path / "model.onnx").write_text("an earlier file")
    write = exporting._write

    def tampered(whole: exporting.ProbabilityModel, card: model_folder.Card, path: Path) -> None:
        write(whole, card, path)
        whole.temperature = 0.01  # torch alone

    monkeypatch.setattr(exporting, "_write", tampered)
    with pytest.raises(PipelineError, match="differ by"):
        exporting.export(tmp_path / "models", tmp_path / "model.onnx", None)
    assert (tmp_path / "model.onnx").read_text() == "an earlier file"
