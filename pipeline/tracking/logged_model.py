"""A logged model: a folder with our code that `mlflow.pyfunc.load_model` opens.

`mlflow.pyfunc.save_model` writes the same files, but compares the requirements with the modules
of every installed package (`warn_dependency_requirement_mismatches`), which no setting turns off:
0.6 s of CPU time per training more (mlflow 3.17.2, 297 packages). The requirements below are
those of the installed packages, so there is nothing to compare. `mlflow.models.Model` would write
the file MLmodel, but importing it takes 0.3 s, for pandas and scipy.
"""

import base64
import importlib.metadata
import json
import platform
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from mlflow.entities import LoggedModel
from mlflow.version import VERSION
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
    "pillow-heif",
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
# Columns, as MLflow's ModelSignature writes them. Without columns of the input: where there are
# any, MLflow refuses lists, arrays and single images, and its error contains all their bytes.
OUTPUTS = [
    {"type": "string", "name": "label", "required": True},
    {"type": "double", "name": "probability", "required": False},
    {"type": "string", "name": "problem", "required": False},
    {"type": "array", "items": {"type": "string"}, "name": "set", "required": False},
    {"type": "boolean", "name": "none_of_these", "required": False},
]


def save_model(folder: Path, models: Path, logged: LoggedModel) -> None:
    """Write the model folder `models` as MLflow's `logged` into a new folder.

    It holds the code, its requirements and an example, too. Source: "MLflow Model Configuration"
    of MLflow's documentation.
    """
    shutil.copytree(models, folder / "data" / models.name)
    code, ignored = Path(__file__).parent.parent, shutil.ignore_patterns("__pycache__")
    shutil.copytree(code, folder / "code" / code.name, ignore=ignored)
    _write_environments(folder)
    example = _write_example(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    content = {
        "artifact_path": logged.artifact_location,
        "flavors": {"python_function": _flavor(models.name)},
        "is_signature_from_type_hint": False,
        "mlflow_version": VERSION,
        "model_id": logged.model_id,
        "model_size_bytes": size,
        "model_uuid": logged.model_id,
        "prompts": None,
        "run_id": logged.source_run_id,
        "saved_input_example_info": example,
        "signature": {
            "inputs": None,
            "outputs": json.dumps(OUTPUTS),
            "params": None,
        },
        "type_hint_from_example": False,
        "utc_time_created": str(datetime.now(UTC).replace(tzinfo=None)),
    }
    _yaml().dump(content, folder / "MLmodel")


def _flavor(data: str) -> dict[str, object]:
    """As `mlflow.pyfunc.add_to_model` adds it."""
    return {
        "code": "code",
        "data": f"data/{data}",
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": "pipeline.inference.mlflow_model",
        "python_version": platform.python_version(),
        "streamable": False,
    }


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    return yaml


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


@cache
def requirements() -> tuple[str, ...]:
    """What the logged model imports, in the installed versions."""
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in SERVING]
    for name in WHERE_INSTALLED:
        with suppress(importlib.metadata.PackageNotFoundError):
            pinned.append(f"{name}=={importlib.metadata.version(name)}")
    return tuple(pinned)


def _write_environments(folder: Path) -> None:
    """The same requirements three times: for pip, for virtualenv, and for conda."""
    pinned = list(requirements())
    python = platform.python_version()
    (folder / "requirements.txt").write_text("\n".join(pinned))
    yaml = _yaml()
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
