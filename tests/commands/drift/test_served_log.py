import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.drift.known_images import DataFolders, KnownImages
from pipeline.commands.serve.models import ModelSource
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.inference.answer_log import AnswerLog, read_log
from tests.builders.images import noise_png
from tests.builders.services import running_batcher

pytestmark = pytest.mark.usefixtures("figures", "warm_workers")


@pytest.fixture
def log(world: Path) -> Path:
    """The log of a service that answered noise, one image of it three times."""
    path = world / "served.jsonl"
    model = ModelSource("models").load()
    assert model is not None
    with running_batcher(model, log=AnswerLog(path)) as batcher:
        images = [noise_png(number) for number in range(8)]
        futures = batcher.submit([*images, images[0], images[0], b"text"], 1)
        problems = [future.result().classification.problem for future in futures]
        assert problems == [None] * 10 + ["not_an_image"]
    return path


def drift(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["drift", *arguments])
    assert not isinstance(result.exception, PipelineError), result.exception
    return result.exit_code, result.output


def test_drift_reads_the_log_of_a_service(log: Path) -> None:
    code, output = drift(str(log))
    assert code == 3, output
    assert "The 10 new images differ from the training images" in output
    assert "8 of 8 new images are far: " in output  # an image that was sent three times counts once
    page = Path("reports/drift.html").read_text()
    assert "answer 1<" in page


def test_answers_of_another_model_are_left_out(log: Path, world: Path) -> None:
    lines = log.read_text().splitlines(keepends=True)
    (answer, *_) = read_log(log)
    log.write_text("".join(lines) + lines[0].replace(answer.fingerprint, "0" * 64))
    assert "Not compared: 1 answered by another model." in drift(str(log))[1]
    log.write_text(lines[0].replace(answer.fingerprint, "0" * 64))
    result = CliRunner().invoke(app, ["drift", str(log)])
    assert "has no answers of the model in models/" in str(result.exception)
    (world / "a.png").write_bytes(noise_png(1))
    result = CliRunner().invoke(app, ["drift", str(log), "a.png"])
    assert "served.jsonl is the log of a service: compare it alone" in str(result.exception)


def test_features_of_another_size_are_one_sentence(log: Path) -> None:
    record = json.loads(log.read_text().splitlines()[0])
    log.write_text(json.dumps(record | {"features": "AAAAAA=="}) + "\n")
    result = CliRunner().invoke(app, ["drift", str(log)])
    assert isinstance(result.exception, PipelineError)
    assert "served.jsonl is damaged: an answer has 2 features, and" in str(result.exception)


def test_features_of_a_service_are_those_of_the_data_set(log: Path) -> None:
    """So that the way of an image makes no difference: lossless images have the same pixels."""
    known = KnownImages(DataFolders())
    rows = known.examples.rows("test")[:4]
    ids = known.examples.ids_of(rows)
    table = shards.columns(Path("data/raw"), ["id", "bytes"]).to_pydict()
    path = Path("again.jsonl")
    model = ModelSource("models").load()
    assert model is not None
    with running_batcher(model, log=AnswerLog(path)) as batcher:
        for key in ids:
            image = table["bytes"][table["id"].index(key)]
            batcher.submit([image], 1)[0].result()
    served = np.stack([answer.features for answer in read_log(path)])
    np.testing.assert_allclose(served, known.sample(rows).values, rtol=2e-3, atol=1e-4)
