import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.commands.credits.credits import Credit
from pipeline.commands.serve import training_images
from pipeline.commands.serve.limits import Refusal
from pipeline.commands.serve.models import ModelSource
from pipeline.commands.serve.training_images import SIDE, TrainingImages
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.inference.classifier import Classifier
from pipeline.inference.pooled_features import open_features
from pipeline.network.examples import Examples, read_examples
from tests.builders.credits import LICENCE, SOURCE, TITLE, add_credits, owner_of


@pytest.fixture
def data(striped_model: Path, tmp_path: Path) -> Path:
    """data/ with the features that `striped_model` was trained on, to be changed."""
    return Path(shutil.copytree(striped_model / "data", tmp_path / "data"))


@pytest.fixture(scope="module")
def examples(striped_model: Path) -> Examples:
    data = striped_model / "data"
    return read_examples(data / "split.csv", data / "clean")


@pytest.fixture(scope="module")
def training(striped_model: Path) -> TrainingImages:
    return TrainingImages(striped_model / "data")


def test_neighbours_are_the_training_images_of_the_greatest_cosine(
    striped_model: Path, training: TrainingImages, examples: Examples
) -> None:
    features = open_features(striped_model / "data/features", examples)
    rows, test = examples.rows("train"), examples.rows("test")[:1]
    values, query = features.read_apart(rows), features.read(test)[0]
    cosines = values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
    best = np.argsort(-cosines)[:3]
    similar = training.most_similar(query, 3)
    assert [image.id for image in similar] == examples.ids_of(rows[best])
    assert [image.similarity for image in similar] == pytest.approx(cosines[best].tolist())
    labels = examples.labels[rows[best]].tolist()
    assert [image.label for image in similar] == [examples.classes[label] for label in labels]


def test_there_are_no_more_than_the_training_images(
    training: TrainingImages, examples: Examples
) -> None:
    similar = training.most_similar(training._values[0].numpy(), 999)
    assert {image.id for image in similar} == set(examples.ids_of(examples.rows("train")))


def test_features_that_are_not_finite_are_like_none(training: TrainingImages) -> None:
    values = np.full_like(training._values[0].numpy(), np.inf)
    with np.errstate(invalid="ignore"):
        assert [image.similarity for image in training.most_similar(values, 2)] == [-1, -1]


def test_many_training_images_are_thinned(
    striped_model: Path, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_images, "MAX_IMAGES", 5)
    training = TrainingImages(striped_model / "data")
    count = len(examples.rows("train"))
    assert (len(training), str(training)) == (5, f"5 of the {count} training images")


def test_a_thumbnail_is_a_small_picture_of_a_training_image_alone(
    training: TrainingImages, examples: Examples
) -> None:
    jpeg = training.thumbnail(examples.ids_of(examples.rows("train"))[0])
    assert jpeg is not None
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (40, 48, 3)
    assert max(picture.shape) <= SIDE
    for key in (examples.ids_of(examples.rows("test"))[0], "", "../split.csv", "0" * 64):
        assert training.thumbnail(key) is None


def test_waiting_thumbnails_are_bounded(
    striped_model: Path, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_images, "MAX_WAITING", 0)
    training = TrainingImages(striped_model / "data")
    with pytest.raises(Refusal, match="busy"):
        training.thumbnail(examples.ids_of(examples.rows("train"))[0])


def test_images_that_another_run_replaced_are_not_drawn(data: Path) -> None:
    training = TrainingImages(data)
    (key,) = (image.id for image in training.most_similar(training._values[0].numpy(), 1))
    rows = shards.read(shards.paths(data / "clean")[0]).to_pylist()
    for replacement in (rows[1:] + rows[:1], rows[:1]):
        shards.write(data / "clean", shards.CLEAN, replacement)
        with pytest.raises(PipelineError, match="replaced by another run"):
            training.thumbnail(key)
    shutil.rmtree(data / "clean")
    with pytest.raises(PipelineError, match="replaced by another run"):
        training.thumbnail(key)


def test_credits_are_those_of_the_source(data: Path) -> None:
    add_credits(data / "raw")
    training = TrainingImages(data)
    for image in training.most_similar(training._values[0].numpy(), 3):
        assert image.credit == Credit(TITLE, owner_of(image.id), LICENCE, SOURCE)


@pytest.mark.parametrize("name", ["split.csv", "clean", "raw", "features"])
def test_without_a_part_of_the_data_a_sentence_says_so(data: Path, name: str) -> None:
    path = data / name
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(PipelineError, match="dvc repro"):
        TrainingImages(data)


def test_a_model_of_another_frozen_part_shows_none(striped_model: Path, data: Path) -> None:
    folder = str(striped_model / "models")
    served = ModelSource(folder, data).load()
    assert served is not None
    assert isinstance(served.training, TrainingImages)
    assert served.note == f"; the page shows the nearest of {served.training}"
    index = data / "features/features.json"
    index.write_text(index.read_text().replace('"prefix": "', '"prefix": "f'))
    other = ModelSource(folder, data).load()
    assert other is not None
    assert other.training is None
    assert other.note.startswith("; the page shows no training images: ")
    assert "was not computed by the frozen part of this model" in other.note


def test_features_of_another_preprocessing_do_not_fit(striped_model: Path) -> None:
    classifier = Classifier(striped_model / "models")
    training = TrainingImages(striped_model / "data")
    training.check_model(classifier)
    preprocess = training._index.preprocess.model_copy(update={"size": 31})
    training._index = training._index.model_copy(update={"preprocess": preprocess})
    with pytest.raises(PipelineError, match="of another training"):
        training.check_model(classifier)
