import dataclasses
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch

from pipeline.commands.serve.batching import Batcher, ServedModel
from pipeline.commands.serve.limits import Refusal
from pipeline.inference.classifier import Outputs
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.image_values import ImageValue
from pipeline.inference.predict import NamedImage, predict
from tests.builders.images import grey_png, noise_png
from tests.builders.services import load_model, running_batcher

IMAGES = [noise_png(seed) for seed in range(20)]


@pytest.fixture(scope="module")
def model(striped_model: Path) -> ServedModel:
    return load_model(striped_model / "models")


@pytest.fixture
def batcher(model: ServedModel, warm_workers: None) -> Iterator[Batcher]:
    with running_batcher(model) as batcher:
        yield batcher


def test_answers_do_not_depend_on_company_and_come_in_order(batcher: Batcher) -> None:
    alone = [batcher.submit([image], 2)[0].result().classification for image in IMAGES]
    together = [future.result().classification for future in batcher.submit(IMAGES, 2)]
    assert together == alone  # to the last bit
    assert len({answer.top for answer in alone}) == len(IMAGES)


def test_answers_are_those_of_predict(batcher: Batcher, model: ServedModel) -> None:
    with DecoderPool(processes=1) as decoders:
        named = [NamedImage("", image) for image in IMAGES[:3]]
        expected = [answer.prediction for answer in predict(model.classifier, decoders, named)]
    for future, answer in zip(batcher.submit(IMAGES[:3], 1), expected, strict=True):
        classification = future.result().classification
        assert classification.label == answer.label
        assert classification.probability == pytest.approx(answer.probability, abs=1e-6)


def test_each_image_has_its_own_problem_and_number_of_classes(batcher: Batcher) -> None:
    images: list[ImageValue] = [b"text", "gone", grey_png(3), b""]
    problems = [future.result().classification.problem for future in batcher.submit(images, 1)]
    assert problems == ["not_an_image", "gone", None, "empty"]
    (one,), (two,) = batcher.submit([grey_png(3)], 1), batcher.submit([grey_png(3)], 9)
    assert [len(future.result().classification.top) for future in (one, two)] == [1, 2]


def test_too_many_waiting_images_are_refused_as_a_whole(
    model: ServedModel, warm_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()
    compute = model.classifier.compute_independently

    def wait(views: torch.Tensor) -> Outputs:
        go_on.wait(30)
        return compute(views)

    monkeypatch.setattr(model.classifier, "compute_independently", wait)
    with running_batcher(model, lanes=1, max_waiting=3) as batcher:
        first = batcher.submit(IMAGES[:2], 1)
        with pytest.raises(Refusal, match="busy"):
            batcher.submit(IMAGES[2:4], 1)
        last = batcher.submit(IMAGES[4:5], 1)
        assert batcher.waiting == 3
        go_on.set()
        assert all(future.result().classification.label for future in [*first, *last])


def test_an_error_reaches_those_of_the_batch_and_the_lane_goes_on(
    model: ServedModel, warm_workers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_batcher(model, lanes=1) as batcher:
        with pytest.MonkeyPatch.context() as patch:

            def fail(_: torch.Tensor) -> torch.Tensor:
                raise RuntimeError("no device")

            patch.setattr(model.classifier, "compute_independently", fail)
            (future,) = batcher.submit([grey_png(1)], 1)
            with pytest.raises(RuntimeError, match="no device"):
                future.result()
        assert batcher.is_running
        (future,) = batcher.submit([grey_png(1)], 1)
        assert future.result().classification.label


def test_a_closed_batcher_has_answered_what_waited(model: ServedModel, warm_workers: None) -> None:
    with running_batcher(model) as batcher:
        futures = batcher.submit(IMAGES, 1)
    assert all(future.done() for future in futures)
    assert not batcher.is_running
    with pytest.raises(Refusal):
        batcher.submit(IMAGES, 1)


def test_a_replaced_model_answers_from_then_on(batcher: Batcher, model: ServedModel) -> None:
    (before,) = batcher.submit([grey_png(1)], 1)
    assert before.result().model is model
    batcher.model = dataclasses.replace(model, name="stripes version 2")
    (after,) = batcher.submit([grey_png(1)], 1)
    assert after.result().model.name == "stripes version 2"
