"""Stage train in the working directory: its command line, its outputs, its checkpoint."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from pipeline.network import tensors

WORDS = [
    "data/clean",
    "data/split.csv",
    "data/features",
    "models",
    "reports/history.csv",
    "reports/augmented.png",
]
NOWHERE = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
OF_TORCH = pytest.mark.usefixtures("torch_engine")  # whichever engine has computed the features


def read_outs() -> dict[str, bytes]:
    names = (
        "models/model.safetensors",
        "models/model.json",
        "reports/history.csv",
        "reports/augmented.png",
    )
    return {name: Path(name).read_bytes() for name in names}


def epoch_saved(path: Path) -> int:
    """The epoch of the checkpoint, 0 if there is none."""
    try:
        with safe_open(path, "pt") as file:
            _, _, facts = file.metadata()[tensors.NOTE].partition(" ")
            return int(json.loads(facts)["epoch"])
    except FileNotFoundError:
        return 0
