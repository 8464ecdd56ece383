"""The exported folder works on its own: its example gives the probabilities of the network."""

import ast
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.commands.export import plain_torch
from pipeline.core.errors import PipelineError
from pipeline.network import libraries, model_folder
from pipeline.network.model_folder import Card
from pipeline.params import HeadParams
from tests.builders.models import LINEAR_HEAD, save_untrained

MLP = LINEAR_HEAD.model_copy(update={"kind": "mlp", "one_logit": True})
# Name, head, what it replaces (None: the last layer), and the side of the images.
NETWORKS = [
    ("mobilenet_v2", LINEAR_HEAD, None, 64),
    ("resnet18", MLP, None, 64),
    ("squeezenet1_1", LINEAR_HEAD, None, 64),
    ("mnasnet0_5", LINEAR_HEAD, None, 64),
    ("googlenet", LINEAR_HEAD, None, 64),
    ("swin_t", LINEAR_HEAD, None, 64),
    ("timm/swin_tiny_patch4_window7_224", LINEAR_HEAD, "head", 224),
    ("cifar_cnn", LINEAR_HEAD, None, 32),
    ("resnet9_narrow", MLP, None, 32),
    ("timm/resnet10t", LINEAR_HEAD, None, 64),
]


def picture(path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = cv2.resize(random.integers(0, 256, (6, 9, 3), np.uint8), (150, 100))
    cv2.imwrite(str(path), pixels)


def expected_probabilities(models: Path, photo: Path, card: Card) -> torch.Tensor:
    network, _ = model_folder.load(models)
    pixels = torch.from_numpy(cv2.imread(str(photo), cv2.IMREAD_COLOR_RGB)).permute(2, 0, 1)
    view = card.preprocess.evaluation()(pixels)
    with torch.inference_mode():
        scores = network(card.preprocess.normalise(view[None]))
    probabilities: torch.Tensor = (scores / card.temperature).softmax(dim=1)[0]
    return probabilities


@pytest.mark.parametrize(("name", "head", "replaced", "size"), NETWORKS, ids=str)
@pytest.mark.filterwarnings("ignore:.*GoogLeNet:FutureWarning")
def test_the_example_gives_the_networks_probabilities(
    name: str,
    head: HeadParams,
    replaced: str | None,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = save_untrained(tmp_path / "models", name, head, replaced, size)
    picture(tmp_path / "photo.png")
    names = plain_torch.export(tmp_path / "models", tmp_path / "plain")
    example = tmp_path / "plain/example.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path / "photo.png")])
    monkeypatch.syspath_prepend(str(example.parent))
    sys.modules.pop("network", None)
    runpy.run_path(str(example))
    _, label, probability = capsys.readouterr().out.rstrip().split("\t")
    probabilities = expected_probabilities(tmp_path / "models", tmp_path / "photo.png", card)
    assert label == card.classes[int(probabilities.argmax())]
    assert float(probability) == pytest.approx(float(probabilities.max()), abs=2e-4)
    assert ("network.py" in names) == (libraries.library_of(name) == "small")


def test_the_example_is_short_and_imports_nothing_of_ours(tmp_path: Path) -> None:
    save_untrained(tmp_path / "models", "mobilenet_v2", LINEAR_HEAD, None, 32)
    plain_torch.export(tmp_path / "models", tmp_path / "plain")
    text = (tmp_path / "plain/example.py").read_text()
    imported: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    used = {name.split(".")[0] for name in imported} - {"json", "sys", "pathlib"}
    assert used == {"torch", "torchvision", "PIL"}  # torchvision asks for Pillow
    assert len(text.splitlines()) <= 50
    facts: dict[str, Any] = json.loads((tmp_path / "plain/model.json").read_text())
    assert facts["classes"] == ["ant", "bee"]


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    save_untrained(tmp_path / "models", "mobilenet_v2", LINEAR_HEAD, None, 32)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(PipelineError, match="not empty"):
        plain_torch.export(tmp_path / "models", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
