"""The export in MLflow's PyTorch flavour: a graph without pickle, for batches of any size."""

import zipfile
from pathlib import Path

import mlflow.pytorch
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.commands.export import mlflow_pytorch
from pipeline.core.errors import PipelineError
from tests.builders.models import LINEAR_HEAD, save_untrained


def test_the_folder_loads_without_our_code_and_has_no_pickle(tmp_path: Path) -> None:
    models, folder = tmp_path / "models", tmp_path / "exported"
    save_untrained(models, "resnet9_narrow", LINEAR_HEAD, None, 32)
    assert mlflow_pytorch.export(models, folder) <= mlflow_pytorch.TOLERANCE
    with zipfile.ZipFile(folder / "data/model.pt2") as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
    assert not (folder / "code").exists()
    loaded = mlflow.pytorch.load_model(str(folder))
    for size in (2, 7):
        probabilities = loaded(torch.zeros(size, 3, 32, 32, dtype=torch.uint8))
        assert torch.allclose(probabilities.sum(dim=1), torch.ones(size))
    content = YAML(typ="safe").load(folder / "MLmodel")
    assert len(content["metadata"]["classes"]) == probabilities.shape[1]


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
