"""A logged model: a folder with our code that `mlflow.pyfunc.load_model` opens.

`mlflow.pyfunc.save_model` writes the same files, but compares the requirements with the modules
of every installed package (`warn_dependency_requirement_mismatches`), which no setting turns off:
0.6 s of CPU time per training more (mlflow 3.17.2, 297 packages). The requirements below are
those of the installed packages, so there is nothing to compare.
"""

import base64
import importlib.metadata
import json
import platform
import shutil
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from mlflow import pyfunc
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from ruamel.yaml import YAML

# The packages that the logged model imports, pinned to the installed versions.
SERVING = (
    "joblib",
    "lightning-fabric",
    "loky",
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "simplejpeg",
    "timm",
    "torch",
    "torchvision",
    "tqdm",
)
WHERE_INSTALLED = ("openvino",)  # has no wheels for some systems; torch then does its work
SIGNATURE = ModelSignature(
    # For "binary", MLflow would decode base64 itself, and drop every character that is none.
    inputs=Schema([ColSpec("string", "image")]),
    outputs=Schema(
        [
            ColSpec("string", "label"),
            ColSpec("double", "probability", required=False),
            ColSpec("string", "problem", required=False),
        ]
    ),
)


def save_model(
    path: str, mlflow_model: Model, models: Path, source_run: str | None = None, **_: object
) -> None:
    """Write the model folder `models`, with code, requirements and an example, to `path`.

    Source: "Custom model flavors" of MLflow's documentation; `Model.log` calls it.

    Args:
        source_run: The id of the run that trained it.
    """
    mlflow_model.run_id = source_run
    folder = Path(path)
    shutil.copytree(models, folder / "data" / models.name)
    code, ignored = Path(__file__).parent.parent, shutil.ignore_patterns("__pycache__")
    shutil.copytree(code, folder / "code" / code.name, ignore=ignored)
    _write_environments(folder)
    pyfunc.add_to_model(
        mlflow_model,
        loader_module="pipeline.inference.mlflow_model",
        data=f"data/{models.name}",
        code="code",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        streamable=False,
    )
    mlflow_model.signature = SIGNATURE
    mlflow_model.saved_input_example_info = _write_example(folder)
    mlflow_model.model_size_bytes = sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file()
    )
    mlflow_model.save(folder / "MLmodel")


def _write_example(folder: Path) -> dict[str, str]:
    """Write an example of a request. The picture is computed: photographs have owners."""
    shade = np.linspace(0, 255, 64).astype(np.uint8)
    picture = np.stack(
        [
            np.tile(shade, (64, 1)),
            np.tile(shade[:, None], (1, 64)),
            np.full((64, 64), 128, np.uint8),
        ],
        axis=2,
    )
    encoded = base64.encodebytes(cv2.imencode(".png", picture)[1].tobytes()).decode()
    table = {"columns": ["image"], "data": [[encoded]]}
    (folder / "input_example.json").write_text(json.dumps(table))
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": table}))
    return {
        "artifact_path": "input_example.json",
        "type": "dataframe",
        "pandas_orient": "split",
        "serving_input_path": "serving_input_example.json",
    }


def requirements() -> list[str]:
    """What the logged model imports, in the installed versions."""
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in SERVING]
    for name in WHERE_INSTALLED:
        with suppress(importlib.metadata.PackageNotFoundError):
            pinned.append(f"{name}=={importlib.metadata.version(name)}")
    return pinned


def _write_environments(folder: Path) -> None:
    """The same requirements three times: for pip, for virtualenv, and for conda."""
    pinned = requirements()
    python = platform.python_version()
    (folder / "requirements.txt").write_text("\n".join(pinned))
    yaml = YAML(typ="safe", pure=True)
    environment = {
        "python": python,
        "build_dependencies": ["pip"],
        "dependencies": ["-r requirements.txt"],
    }
    yaml.dump(environment, folder / "python_env.yaml")
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": pinned}],
    }
    yaml.dump(conda, folder / "conda.yaml")
