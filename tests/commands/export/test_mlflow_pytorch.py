"""The export in MLflow's PyTorch flavour: a graph that needs no code, for batches of any size."""

import io
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

from pipeline.commands.export import mlflow_pytorch
from pipeline.commands.export.onnx import ProbabilityModel
from pipeline.core.errors import PipelineError
from pipeline.network import model_folder
from tests import ROOT
from tests.builders.models import LINEAR_HEAD, save_untrained

ARCHIVE = "data/model.pt2"
EXAMPLE = "model/data/sample_inputs/model.pt"  # in the archive
PREDICT = """
import sys
_, folder, images, probabilities = sys.argv
sys.modules["pipeline"] = None  # importing it fails
import mlflow.pytorch, numpy, torch
model = mlflow.pytorch.load_model(folder)
numpy.save(probabilities, model(torch.from_numpy(numpy.load(images))).detach().numpy())
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/ and its export, exported/."""
    root = tmp_path_factory.mktemp("export")
    save_untrained(root / "models", "resnet9_narrow", LINEAR_HEAD, None, 32)
    difference = mlflow_pytorch.export(root / "models", root / "exported")
    assert difference <= mlflow_pytorch.TOLERANCE
    return root


def test_the_folder_predicts_the_same_in_a_process_without_our_code(
    exported: Path, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(256, size=(7, 3, 32, 32), dtype=np.uint8)
    written, result = tmp_path / "images.npy", tmp_path / "probabilities.npy"
    np.save(written, images)
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", PREDICT, *map(str, (exported / "exported", written, result))]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    network, card = model_folder.load(exported / "models")
    with torch.inference_mode():
        expected = ProbabilityModel(network, card).eval()(torch.from_numpy(images))
    torch.testing.assert_close(torch.from_numpy(np.load(result)), expected)


def test_the_metadata_has_the_classes(exported: Path) -> None:
    content = YAML(typ="safe").load(exported / "exported/MLmodel")
    assert content["metadata"]["classes"] == list(model_folder.load(exported / "models")[1].classes)


def files(content: bytes, name: str = "") -> Iterator[tuple[str, bytes]]:
    """The files of a zip, also those of zips in it."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        yield name, content
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.namelist():
            yield from files(archive.read(entry), f"{name}/{entry}" if name else entry)


def is_pickle(content: bytes) -> bool:
    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(content))
    except ValueError:
        return False


def test_the_only_pickle_is_that_of_the_example_input(exported: Path) -> None:
    archive = exported / "exported" / ARCHIVE
    pickles = [name for name, content in files(archive.read_bytes()) if is_pickle(content)]
    assert pickles == [f"{EXAMPLE}/archive/data.pkl"]
    with zipfile.ZipFile(archive) as entries:
        content = io.BytesIO(entries.read(EXAMPLE))
    (image,), keywords = torch.load(content, weights_only=True)
    assert torch.equal(image, torch.zeros(mlflow_pytorch.BATCH, 3, 32, 32, dtype=torch.uint8))
    assert keywords == {}


def test_the_archive_has_no_paths_of_this_machine_and_the_same_bytes_again(
    exported: Path, tmp_path: Path
) -> None:
    archive = (exported / "exported" / ARCHIVE).read_bytes()
    assert not [path for path in (str(ROOT), sys.prefix) if path.encode() in archive]
    mlflow_pytorch.export(exported / "models", tmp_path / "again")
    assert (tmp_path / "again" / ARCHIVE).read_bytes() == archive


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_added_code_runs_unless_mlflow_disallows_pickles(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    """What docs/using.md tells whoever gets the folder."""
    shutil.copytree(exported / "exported", tmp_path / "changed")
    with (
        zipfile.ZipFile(exported / "exported" / ARCHIVE) as source,
        zipfile.ZipFile(tmp_path / "changed" / ARCHIVE, "w") as changed,
    ):
        bomb = pickle.dumps(Bomb(tmp_path / "ran"))
        for entry in source.namelist():
            changed.writestr(entry, bomb if entry == EXAMPLE else source.read(entry))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", allowed)
    with pytest.raises((MlflowException, RuntimeError)) as error:
        mlflow.pytorch.load_model(str(tmp_path / "changed"))
    assert (tmp_path / "ran").exists() == (allowed == "true")
    assert ("pickle is disallowed" in str(error.value)) == (allowed == "false")


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match="is not empty: name a new folder"):
        mlflow_pytorch.export(tmp_path, tmp_path)


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_graph_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    models = tmp_path / "models"
    save_untrained(models, "resnet9_narrow", LINEAR_HEAD, None, 32)
    monkeypatch.setattr(mlflow.pytorch, "load_model", lambda _: lambda _: torch.tensor([[value]]))
    with pytest.raises(PipelineError, match="nothing was exported"):
        mlflow_pytorch.export(models, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
