"""MLflow's commands serve and predict, on the model that training logged."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pipeline.params import Params
from tests.builders.images import grey_png, noise_png
from tests.builders.training_runs import training_run

PACKED = base64.b64encode(grey_png(200)).decode()
# In both alphabets, which differ here.
NOISE = [encode(noise_png(5)).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)]
SECONDS = 120


@pytest.fixture
def logged(models: Path, params: Params) -> str:
    """The address of a logged model."""
    with training_run(params, "f" * 20, models.parent / "data/split.csv") as run:
        run.log_model(models, "d" * 32, 1)
    client = MlflowClient()
    (experiment,) = (
        candidate.experiment_id
        for candidate in client.search_experiments()
        if candidate.name == params.dataset.name
    )
    (model,) = client.search_logged_models([experiment])
    return str(model.model_uri)


def environment(world: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{world / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mlflow", "models", *arguments, "--env-manager", "local"]


@pytest.fixture
def served(logged: str, world: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        command("serve", "-m", logged, "-p", str(port)),
        env=environment(world),
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            wait(f"{address}/ping", process)
            yield f"{address}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(10 * SECONDS):
        assert process.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server does not start")


def post(url: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_server_accepts_every_form_of_json_and_survives_malformed_requests(served: str) -> None:
    forms: list[dict[str, Any]] = [
        {"dataframe_records": [{"image": PACKED}]},
        {"dataframe_split": {"columns": ["image"], "data": [[PACKED]]}},
        {"inputs": {"image": [PACKED]}},
        {"inputs": [PACKED]},
        {"instances": [{"image": PACKED}]},
    ]
    answers = [post(served, json.dumps(form).encode()) for form in forms]
    assert [status for status, _ in answers] == [200] * len(forms)
    (first,) = answers[0][1]["predictions"]
    assert first["label"] in {"plain", "striped"}
    assert all(answer["predictions"] == [first] for _, answer in answers)
    for body in (
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"inputs": 5}',
        b'{"dataframe_records": [{"x": 1}]}',
    ):
        status, answer = post(served, body)
        assert 400 <= status < 500, (body, status)
        assert answer["message"]
    for values in ([5], [None], [PACKED, None, 5]):
        records = {"dataframe_records": [{"image": value} for value in values]}
        status, answer = post(served, json.dumps(records).encode())
        problems = [row["problem"] for row in answer["predictions"]]
        expected = [None if value == PACKED else "not_an_image" for value in values]
        assert (status, problems) == (200, expected)
    texts = ["", "aGVsbG8=", "%%%", f"data:image/png;base64,{PACKED}", *NOISE]
    for mixed in (
        {"dataframe_records": [{"image": text} for text in texts]},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        {"inputs": texts},
        {"instances": [{"image": text} for text in texts]},
    ):
        status, answer = post(served, json.dumps(mixed).encode())
        assert status == 200
        problems = [row["problem"] for row in answer["predictions"]]
        assert problems == ["empty", "not_an_image", "not_base64", None, None, None]
        assert answer["predictions"][3] == first
        assert answer["predictions"][4] == answer["predictions"][5]


def test_mlflow_predicts_from_a_file(logged: str, world: Path) -> None:
    (world / "request.json").write_text(json.dumps({"dataframe_records": [{"image": PACKED}]}))
    process = subprocess.run(
        command("predict", "-m", logged, "-i", str(world / "request.json"), "-t", "json"),
        env=environment(world),
        cwd="/",
        capture_output=True,
        check=True,
        text=True,
    )
    (row,) = json.loads(process.stdout.splitlines()[-1])["predictions"]
    assert row["label"] in {"plain", "striped"}
    assert row["problem"] is None
