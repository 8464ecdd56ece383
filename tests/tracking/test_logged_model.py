"""What is logged is what mlflow.pyfunc.save_model would write."""

import base64
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema
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
    model = LoggedModel("1", "m-1", "model", "file:///m-1", 0, 0, source_run_id="run")
    logged_model.save_model(ours, models, model)
    mlflow.pyfunc.save_model(
        theirs,
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            run_id=model.source_run_id,
            model_uuid=model.model_id,
            model_id=model.model_id,
        ),
        loader_module="pipeline.inference.mlflow_model",
        data_path=str(models),
        code_paths=pipeline.__path__,
        signature=ModelSignature(
            None,
            Schema.from_json(json.dumps(logged_model.OUTPUTS)),
        ),
        input_example=example(ours),
        pip_requirements=list(logged_model.requirements()),
    )
    assert files(ours) == files(theirs)
    for name in ("input_example.json", "serving_input_example.json"):
        assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())

    def read(name: str) -> tuple[Any, Any]:
        yaml = YAML(typ="safe", pure=True)
        return yaml.load(ours / name), yaml.load(theirs / name)

    our_file, their_file = read("MLmodel")
    assert our_file.keys() == their_file.keys()
    differing = {name for name in our_file if our_file[name] != their_file[name]}
    # Theirs counts the code's __pycache__.
    assert differing <= {"utc_time_created", "model_size_bytes"}
    assert our_file["model_size_bytes"] > 0
    assert len(our_file["utc_time_created"]) == len(their_file["utc_time_created"])
    our_file, their_file = read("conda.yaml")
    assert our_file["dependencies"][0] == their_file["dependencies"][0]
    assert our_file["dependencies"][-1] == their_file["dependencies"][-1]
    our_file, their_file = read("python_env.yaml")
    assert our_file["python"] == their_file["python"]
    assert our_file["dependencies"] == their_file["dependencies"]
    wanted = (theirs / "requirements.txt").read_text()
    assert (ours / "requirements.txt").read_text() == wanted
