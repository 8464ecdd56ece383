from pathlib import Path

import cv2
import numpy as np
import pytest
from test_train import fitted
from typer.testing import CliRunner

from pipeline import model, shards
from pipeline.__main__ import app
from pipeline.params import Params
from pipeline.predict import BATCH, Classifier, Prediction, predict_files


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((40, 40, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def models(dataset: Path, settings: Params) -> Path:
    """A model that knows stripes."""
    chosen = settings.model_copy(
        update={"train": settings.train.model_copy(update={"epochs": 30, "lr": 0.02})}
    )
    job, card, _ = fitted(dataset, chosen)
    model.save(Path("models"), job.network, card)
    return Path("models")


def test_predictions_are_right_and_do_not_depend_on_the_batch(models: Path, dataset: Path) -> None:
    batch = shards.read(shards.paths(dataset / "clean")[0])
    images, labels = (batch.column(name).to_pylist() for name in ("bytes", "label"))
    assert len(images) > BATCH
    classifier = Classifier(models)
    found = list(classifier.predict(images))
    assert np.mean([one.label == label for one, label in zip(found, labels, strict=True)]) > 0.9
    alone = [next(classifier.predict([image])) for image in images[:3]]
    for one, other in zip(alone, found, strict=False):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_bad_images_are_rows_with_reasons_in_their_places(models: Path) -> None:
    found = list(Classifier(models).predict([b"", png(30), b"text", png(200)]))
    assert [one.problem for one in found] == ["empty", None, "not_an_image", None]
    assert found[0] == Prediction(None, None, "empty")


def test_missing_files_are_rows_too(models: Path, tmp_path: Path) -> None:
    (tmp_path / "dark.png").write_bytes(png(30))
    paths = [tmp_path / "absent.png", tmp_path / "dark.png"]
    (_, absent), (path, dark) = predict_files(Classifier(models), paths)
    assert absent.problem == "No such file or directory"
    assert (path, dark.problem) == (paths[1], None)


def test_the_command_prints_a_row_each_and_fails_if_any_did(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos/inner"
    folder.mkdir(parents=True)
    (folder / "one.png").write_bytes(png(30))
    (folder / ".hidden").write_bytes(b"")
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "photos")])
    assert said.exit_code == 0
    (row,) = said.stdout.splitlines()
    path, label, probability, *_ = row.split("\t")
    assert (path, label in {"plain", "striped"}) == (str(folder / "one.png"), True)
    assert 0.5 <= float(probability) <= 1

    (tmp_path / "text.jpg").write_text("hello")
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "text.jpg"), "--format", "json"])
    assert said.exit_code == 1
    assert '"problem": "not_an_image"' in said.stdout


def test_an_empty_folder_is_told(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "empty"), "--model", str(models)])
    assert said.exit_code == 1
    assert "no files in" in str(said.exception)
