"""The folder speaks for itself: its example gives the network's own answers."""

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
from pipeline.network import backbones, heads, model_folder
from pipeline.network.model_folder import Card
from pipeline.params import HeadParams

LINEAR = HeadParams(kind="linear", hidden=8, dropout=0.5, one_logit=False)
MLP = LINEAR.model_copy(update={"kind": "mlp", "one_logit": True})
# Name, head, what it replaces (None: the last layer), and the side of the images.
NETWORKS = [
    ("mobilenet_v2", LINEAR, None, 64),
    ("resnet18", MLP, None, 64),
    ("squeezenet1_1", LINEAR, None, 64),
    ("mnasnet0_5", LINEAR, None, 64),
    ("googlenet", LINEAR, None, 64),
    ("swin_t", LINEAR, None, 64),
    ("timm/swin_tiny_patch4_window7_224", LINEAR, "head", 224),
    ("cifar_cnn", LINEAR, None, 32),
    ("resnet9_narrow", MLP, None, 32),
    ("timm/resnet10t", LINEAR, None, 64),
]


def saved(folder: Path, name: str, head: HeadParams, replaced: str | None, size: int) -> Card:
    """A model with weights by chance."""
    options = {"aux_logits": False, "transform_input": True} if name == "googlenet" else {}
    found = backbones.blank(name, options, size, seed=3)
    end = replaced or found.last
    heads.replace(found.network, end, head, 2, size, seed=4)
    card = Card(
        backbone=name,
        options=options,
        head=head,
        replaced=end,
        trained_from=end,
        classes=["ant", "bee"],
        max_megapixels=50,
        store_side=400,
        temperature=1.7,
        preprocess=found.usual.model_copy(update={"size": size, "resize": size + 8}),
        fingerprint="f",
    )
    model_folder.save(folder, found.network, card)
    return card


def picture(path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = cv2.resize(random.integers(0, 256, (6, 9, 3), np.uint8), (150, 100))
    cv2.imwrite(str(path), pixels)


def wanted(models: Path, photo: Path, card: Card) -> torch.Tensor:
    network, _ = model_folder.load(models)
    pixels = torch.from_numpy(cv2.imread(str(photo), cv2.IMREAD_COLOR_RGB)).permute(2, 0, 1)
    view = card.preprocess.evaluation()(pixels)
    with torch.inference_mode():
        scores = network(card.preprocess.normalise(view[None]))
    chances: torch.Tensor = (scores / card.temperature).softmax(dim=1)[0]
    return chances


@pytest.mark.parametrize(("name", "head", "replaced", "size"), NETWORKS, ids=lambda one: str(one))
@pytest.mark.filterwarnings("ignore:.*GoogLeNet:FutureWarning")
def test_the_example_says_what_the_network_says(
    name: str,
    head: HeadParams,
    replaced: str | None,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    card = saved(tmp_path / "models", name, head, replaced, size)
    picture(tmp_path / "photo.png")
    names = plain_torch.export(tmp_path / "models", tmp_path / "plain")
    example = tmp_path / "plain/example.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(tmp_path / "photo.png")])
    monkeypatch.syspath_prepend(str(example.parent))
    sys.modules.pop("network", None)
    runpy.run_path(str(example))
    _, label, chance = capsys.readouterr().out.rstrip().split("\t")
    chances = wanted(tmp_path / "models", tmp_path / "photo.png", card)
    assert label == card.classes[int(chances.argmax())]
    assert float(chance) == pytest.approx(float(chances.max()), abs=2e-4)
    assert ("network.py" in names) == (name in backbones.SMALL)


def test_the_example_is_short_and_imports_nothing_of_ours(tmp_path: Path) -> None:
    saved(tmp_path / "models", "mobilenet_v2", LINEAR, None, 32)
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


def test_a_folder_that_is_not_empty_stays(tmp_path: Path) -> None:
    saved(tmp_path / "models", "mobilenet_v2", LINEAR, None, 32)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(PipelineError, match="not empty"):
        plain_torch.export(tmp_path / "models", tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
