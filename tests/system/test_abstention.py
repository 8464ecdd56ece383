"""A model that abstains gives the same answers in predict, serve, MLflow and ONNX."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from pipeline.__main__ import app
from pipeline.commands.export import onnx as exporting
from pipeline.commands.serve.access import LOOPBACK
from pipeline.commands.serve.app import Service, build_app
from pipeline.commands.serve.limits import Limits
from pipeline.commands.serve.metrics import Metrics
from pipeline.core import shards
from pipeline.images import decoding
from pipeline.inference.classifier import Classifier
from pipeline.inference.mlflow_model import _load_pyfunc
from tests.builders.abstention import let_abstain
from tests.builders.services import load_model, running_batcher

pytestmark = pytest.mark.usefixtures("warm_workers")
Answer = tuple[frozenset[str], bool]
"""The set, and whether it is none of the classes."""


@pytest.fixture
def abstaining(models: Path, dataset: Path) -> list[bytes]:
    """Let the model in models/ abstain; return images, which are also in photos/."""
    let_abstain(models, dataset / "clean")
    images: list[bytes] = shards.columns(dataset / "clean", ["bytes"])["bytes"].to_pylist()
    Path("photos").mkdir()
    for number, image in enumerate(images):
        Path(f"photos/{number:02}.png").write_bytes(image)
    return images


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments])


def answers_of(records: Iterable[dict[str, Any]]) -> list[Answer]:
    return [(frozenset(record["set"]), record["none_of_these"]) for record in records]


def ask_predict() -> list[Answer]:
    result = run("photos", "--abstain", "--format", "json")
    assert result.exit_code == 0, result.output
    return answers_of(map(json.loads, result.stdout.splitlines()))


def ask_service(images: list[bytes]) -> list[Answer]:
    with running_batcher(load_model(Path("models"))) as batcher:
        service = Service(batcher, Metrics(), Limits(), None, LOOPBACK, None)
        client = TestClient(build_app(service), base_url="http://127.0.0.1:8000")
        response = client.post("/predict", files=[("image", image) for image in images])
        return answers_of(response.json()["predictions"])


def ask_onnx(images: list[bytes]) -> list[Answer]:
    classifier = Classifier(Path("models"))
    classes = classifier.card.classes
    views = torch.stack([classifier.view(decoding.decode(image)) for image in images])
    exporting.export(Path("models"), Path("model.onnx"), None)
    session = onnxruntime.InferenceSession("model.onnx")
    sets, far = session.run(exporting.SETS, {exporting.INPUT: views.numpy()})
    return [
        (frozenset(() if is_far else (classes[index] for index in row.nonzero()[0])), bool(is_far))
        for row, is_far in zip(sets, far, strict=True)
    ]


def test_the_answers_are_the_same_everywhere(abstaining: list[bytes]) -> None:
    answers = ask_predict()
    sizes = {len(labels) for labels, is_none in answers if not is_none}
    assert sizes == {1, 2}
    assert 10 < sum(is_none for _, is_none in answers) < 20
    table = _load_pyfunc("models").predict(abstaining)
    assert answers_of(table.to_dict("records")) == answers
    assert ask_service(abstaining) == answers
    assert ask_onnx(abstaining) == answers


def test_predict_says_it_in_words_and_sorts_what_is_unsure_aside(abstaining: list[bytes]) -> None:
    result = run("photos", "--abstain", "--sort-into", "sorted")
    words = {line.split("\t")[-1] for line in result.stdout.splitlines()}
    assert words <= {
        "plain at 95 %",
        "striped at 95 %",
        "one of {plain, striped} at 95 %",
        "one of {striped, plain} at 95 %",
        "none of these",
    }
    unsure = sum(line.endswith(("}", "} at 95 %", "these")) for line in result.stdout.splitlines())
    assert len(list(Path("sorted/unsure").iterdir())) == unsure > 10
    assert len(list(Path("sorted").rglob("*.png"))) == len(abstaining)
    csv = run("photos", "--abstain", "--format", "csv").stdout.splitlines()
    assert csv[0] == "path,label,probability,problem,answer"


def test_without_the_option_rows_are_as_before(abstaining: list[bytes]) -> None:
    (first, *_) = run("photos", "--format", "json").stdout.splitlines()
    assert [*json.loads(first)] == ["path", "label", "probability", "problem"]


def test_a_model_of_an_older_version_says_in_a_sentence_that_it_promises_nothing(
    models: Path, dataset: Path
) -> None:
    facts = json.loads((models / "model.json").read_text())
    del facts["abstention"]  # as older versions wrote it
    (models / "model.json").write_text(json.dumps(facts))
    result = run(str(dataset), "--abstain")
    assert result.exit_code == 1
    assert str(result.exception).startswith("this model promises nothing about sets of classes")
    image = shards.columns(dataset / "clean", ["bytes"])["bytes"][0].as_py()
    assert [*_load_pyfunc("models").predict([image])] == ["label", "probability", "problem"]
