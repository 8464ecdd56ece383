"""What is logged is what mlflow.pyfunc.save_model would write."""

import base64
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


def test_the_folder_equals_the_one_that_mlflow_writes(tmp_path: Path) -> None:
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
        pip_requirements=logged_model.requirements(),
    )
    assert files(ours) == files(theirs)
    for name in ("input_example.json", "serving_input_example.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())

    def read(name: str) -> tuple[Any, Any]:
        yaml = YAML(typ="safe", pure=True)
        return yaml.load(ours / name), yaml.load(theirs / name)

    our_file, their_file = read("MLmodel")
    assert our_file["flavors"] == their_file["flavors"]
    assert our_file["signature"] == their_file["signature"]
    assert our_file["saved_input_example_info"] == their_file["saved_input_example_info"]
    assert our_file["model_size_bytes"] > 0
    our_file, their_file = read("conda.yaml")
    assert our_file["dependencies"][0] == their_file["dependencies"][0]
    assert our_file["dependencies"][-1] == their_file["dependencies"][-1]
    our_file, their_file = read("python_env.yaml")
    assert our_file["python"] == their_file["python"]
    assert our_file["dependencies"] == their_file["dependencies"]
    wanted = (theirs / "requirements.txt").read_text()
    assert (ours / "requirements.txt").read_text() == wanted
