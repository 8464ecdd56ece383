"""What is logged is what mlflow.pyfunc.save_model would write."""

import base64
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import Model
from ruamel.yaml import YAML

import pipeline
from pipeline.tracking import logged_model


def example(folder: Path) -> pd.DataFrame:
    """The picture in our own example, as somebody would give it to MLflow."""
    (row,) = json.loads((folder / "input_example.json").read_text())["data"]
    return pd.DataFrame({"image": [base64.b64decode(row[0])]})


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_it_is_as_mlflow_writes_it(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "model.json").write_text("{}")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    logged_model.save_model(str(ours), Model(), models)
    mlflow.pyfunc.save_model(
        theirs,
        loader_module="pipeline.inference.mlflow_model",
        data_path=str(models),
        code_paths=pipeline.__path__,
        signature=logged_model.SIGNATURE,
        input_example=example(ours),
        pip_requirements=[
            f"{name}=={importlib.metadata.version(name)}" for name in logged_model.SERVING
        ],
    )
    assert files(ours) == files(theirs)
    for name in ("input_example.json", "serving_input_example.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())

    def read(name: str) -> tuple[Any, Any]:
        yaml = YAML(typ="safe", pure=True)
        return yaml.load(ours / name), yaml.load(theirs / name)

    said, wanted = read("MLmodel")
    assert said["flavors"] == wanted["flavors"]
    assert said["signature"] == wanted["signature"]
    assert said["saved_input_example_info"] == wanted["saved_input_example_info"]
    assert said["model_size_bytes"] > 0
    said, wanted = read("conda.yaml")
    assert said["dependencies"][0] == wanted["dependencies"][0]
    assert said["dependencies"][-1] == wanted["dependencies"][-1]
    said, wanted = read("python_env.yaml")
    assert said["python"] == wanted["python"]
    assert said["dependencies"] == wanted["dependencies"]
    wanted = (theirs / "requirements.txt").read_text()
    assert (ours / "requirements.txt").read_text() == wanted
