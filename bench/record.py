"""Seconds that the record of a training and its evaluation takes, by kind of store.

    python -m bench.record

The stores are the project's own SQLite, PostgreSQL reached directly, and MLflow's server with
PostgreSQL behind it; both have artifacts on an S3 server, moto's. All run on this machine, so that
networks add their latency. Importing MLflow and opening the store come before.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import patch

import numpy as np
from torch import nn

from pipeline.core.history import Record
from pipeline.params import Params, load_params
from pipeline.tracking import provenance, record, store
from pipeline.tracking.result import TrainedResult
from pipeline.tracking.run import Run
from tests.builders.mlflow_server import DESTINATION, serve_mlflow
from tests.builders.postgres import serve_postgres
from tests.builders.s3 import serve_s3

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 30
MODEL_BYTES = 9_000_000  # of mobilenet_v2
METRICS = 60
PICTURES, PICTURE_BYTES = 12, 50_000
SPLIT, MODELS, TEST, AUGMENTED = map(
    Path, ("data/split.csv", "models", "test", "reports/augmented.png")
)
HISTORY = [
    Record(epoch, float(epoch), 0.1, 2 / epoch, 0.5, val_loss=1 / epoch, val_accuracy=0.5)
    for epoch in range(1, EPOCHS + 1)
]


def write_results() -> None:
    """Write what a training and an evaluation leave, into the working directory."""
    random = np.random.default_rng(0)
    for path in (SPLIT, MODELS / "model.json", TEST / "0.png", AUGMENTED):
        path.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    rows = (f"{number:064x},bee,{('train', 'val', 'test')[number % 3]}," for number in range(400))
    SPLIT.write_text("\n".join(["id,label,split,group", *rows, ""]))
    (MODELS / "model.json").write_text("{}")
    (MODELS / "model.safetensors").write_bytes(random.bytes(MODEL_BYTES))
    for path in (AUGMENTED, *(TEST / f"{number}.png" for number in range(PICTURES))):
        path.write_bytes(random.bytes(PICTURE_BYTES))


def measure(params: Params) -> tuple[float, float]:
    """Seconds of the record of a training, and of an evaluation."""
    values = params.flat()
    fingerprint = os.urandom(10).hex()
    start = time.perf_counter()
    run = Run()
    with record.closing(run):
        record.open_training_run(params, fingerprint, SPLIT, "", run)
        for validation in HISTORY:
            run.log_validation(validation)
        run.log_file(AUGMENTED, "train")
        record.log_trained(run, MODELS, HISTORY)
    assert run.id is not None, "the store failed"
    middle = time.perf_counter()
    assert record.record_evaluation(
        TrainedResult(
            values,
            provenance.run_tags(fingerprint),
            provenance.read_files(""),
            MODELS,
            lambda: cast("nn.Module", SimpleNamespace()),
            HISTORY,
            AUGMENTED,
            SPLIT,
            {"accuracy": 0.9, "correct": 9, "n": 10}
            | {f"figure_{number}": number / METRICS for number in range(METRICS)},
            TEST,
            "<p>report</p>" * 10_000,
        )
    )
    return middle - start, time.perf_counter() - middle


@contextmanager
def stores(folder: Path) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """The environment of each store, by its name."""
    with serve_postgres() as postgres, serve_s3() as s3:
        credentials = {
            "AWS_ENDPOINT_URL": s3,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with patch.dict(os.environ, credentials):
            database = postgres.create_database("direct")
            served = postgres.create_database("served")
            with serve_mlflow(served, folder) as address:
                yield {
                    "SQLite": {"MLFLOW_TRACKING_URI": ""},
                    "PostgreSQL": {
                        "MLFLOW_TRACKING_URI": database,
                        "MLFLOW_ARTIFACTS_DESTINATION": DESTINATION,
                    },
                    "MLflow's server": {"MLFLOW_TRACKING_URI": address},
                }


def main() -> None:
    """Measure each store in turn, after one round that is not counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    params = load_params(ROOT / "params.yaml")
    figures: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environments = stack.enter_context(stores(folder))
        stack.enter_context(chdir(folder))
        stack.enter_context(patch.dict(os.environ, {"DVC_ROOT": str(folder)}))
        write_results()
        for turn in range(repeats + 1):
            for name, environment in environments.items():
                with patch.dict(os.environ, environment):
                    store.open_store()
                    seconds = measure(params)
                if turn:
                    figures.setdefault(name, []).append(seconds)
    for name, values in figures.items():
        for stage, column in zip(("train", "evaluate"), zip(*values, strict=True), strict=True):
            median, spread = statistics.median(column), (min(column), max(column))
            print(json.dumps({"store": name, "record of": stage, "s": median, "range": spread}))


if __name__ == "__main__":
    main()
