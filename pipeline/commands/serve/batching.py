"""Images of all requests, answered in batches.

Each of a few threads, the lanes, takes the images that wait, has them decoded, and computes their
answers. While one lane waits for a decoder, another computes.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch

from pipeline.commands.serve.compute_lock import ComputeLock
from pipeline.commands.serve.limits import refuse_when_busy
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.training_images import TrainingImage, TrainingImages
from pipeline.inference.answer_log import AnswerLog
from pipeline.inference.classifier import Classification, Classifier
from pipeline.inference.computed_features import ComputedFeatures, Values
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.image_values import ImageValue
from pipeline.inference.predict import MAX_BATCH_BYTES, Answer, NamedImage, answer_batch
from pipeline.network.loading.parallel_forward import SUB_BATCH

BATCH_WAIT = 0.002  # seconds that the first image of a batch waits for others


@dataclass(frozen=True)
class ServedModel:
    """A model that answers."""

    classifier: Classifier
    name: str
    """For clients, such as "pets version 3"."""
    training: TrainingImages | None = None
    """Those with whose features it was trained; None if they are not shown."""
    note: str = ""
    """What people are told about these, such as "; the page shows ..."; "" for nothing."""


@dataclass(frozen=True)
class ServedAnswer:
    """The answer for an image."""

    classification: Classification
    model: ServedModel
    neighbours: Sequence[TrainingImage] = ()
    """Training images, the most similar first."""


@dataclass(frozen=True)
class WaitingImage:
    """An image and who waits for its answer."""

    content: ImageValue
    top_k: int
    neighbours: int
    """How many training images are looked for."""
    future: Future[ServedAnswer] = field(default_factory=Future)


class Batcher:
    """Answers images by `model`, which may be replaced at any time."""

    def __init__(
        self,
        model: ServedModel,
        decoders: DecoderPool,
        max_waiting: int,
        metrics: Metrics,
        log: AnswerLog | None = None,
    ) -> None:
        """
        Args:
            decoders: Its workers have started.
            max_waiting: Images that are not answered yet.
            log: Of features and answers; None for none.
        """
        self.model = model
        self.lock = ComputeLock()
        """Of all that run a network in this process."""
        self.decoders, self._max_waiting, self._metrics = decoders, max_waiting, metrics
        self._log, self._features = log, ComputedFeatures()
        self._images: deque[WaitingImage] = deque()
        self._unanswered = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._lanes: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """Images that are not answered yet."""
        return self._unanswered

    @property
    def is_running(self) -> bool:
        return bool(self._lanes) and all(lane.is_alive() for lane in self._lanes)

    def start(self, lanes: int) -> None:
        """Start the lanes."""
        self._lanes = [threading.Thread(target=self._run, daemon=True) for _ in range(lanes)]
        for lane in self._lanes:
            lane.start()

    def close(self) -> None:
        """Answer what waits, and end the lanes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for lane in self._lanes:
            lane.join()

    def submit(
        self, images: Sequence[ImageValue], top_k: int, neighbours: int = 0
    ) -> list[Future[ServedAnswer]]:
        """Have images answered: all, or none of them.

        Args:
            neighbours: Training images that each answer is to have, if they are known.

        Raises:
            Refusal: too many images wait.
        """
        waiting = [WaitingImage(image, top_k, neighbours) for image in images]
        with self._changed:
            if self._is_closed or self._unanswered + len(waiting) > self._max_waiting:
                raise refuse_when_busy()
            self._images.extend(waiting)
            self._unanswered += len(waiting)
            self._changed.notify()
        return [image.future for image in waiting]

    def _run(self) -> None:
        torch.set_num_threads(1)  # each lane computes on one core
        while batch := self._take():
            self._answer(batch)

    def _take(self) -> list[WaitingImage]:
        """The images of the next batch, as soon as there are some; none after `close`."""
        with self._changed:
            batch: list[WaitingImage] = []
            while not batch and (self._images or not self._is_closed):
                self._changed.wait_for(lambda: self._images or self._is_closed)
                self._wait_for_more()
                size = 0
                while self._images and len(batch) < SUB_BATCH and size <= MAX_BATCH_BYTES:
                    batch.append(self._images.popleft())
                    size += len(batch[-1].content)
            if self._images:
                self._changed.notify()
            return batch

    def _wait_for_more(self) -> None:
        deadline = time.monotonic() + BATCH_WAIT
        while 0 < len(self._images) < SUB_BATCH and not self._is_closed:
            if not self._changed.wait(deadline - time.monotonic()):
                return

    def _answer(self, batch: Sequence[WaitingImage]) -> None:
        active = [image for image in batch if image.future.set_running_or_notify_cancel()]
        try:
            predictions = self._predict(active)
        except Exception as error:  # noqa: BLE001 # each client gets it, and the lane goes on
            for image in active:
                image.future.set_exception(error)
        else:
            problems = [prediction.classification.problem for prediction in predictions]
            self._metrics.count_batch(problems)
            for image, prediction in zip(active, predictions, strict=True):
                image.future.set_result(prediction)
        finally:
            with self._changed:
                self._unanswered -= len(batch)

    def _predict(self, batch: Sequence[WaitingImage]) -> list[ServedAnswer]:
        if not batch:
            return []
        model = self.model
        card = model.classifier.card
        images = [NamedImage("", image.content) for image in batch]
        encoded = [image.content for image in images if isinstance(image.content, bytes)]
        chunks = self.decoders.decode([encoded], card.max_megapixels, card.store_side)
        (decoded,) = chunks if encoded else [[]]
        top_k = max(image.top_k for image in batch)
        has_search = model.training is not None and any(image.neighbours for image in batch)
        needs_features = has_search or self._log is not None
        collecting = self._features.collecting(model.classifier)
        with collecting if needs_features else nullcontext():
            with self.lock.computing():
                answers = answer_batch(
                    model.classifier, images, decoded, top_k, is_independent=True
                )
            features = self._use_features(model, answers) if needs_features else [None] * len(batch)
        return [
            ServedAnswer(
                _cut(answer.prediction, image.top_k),
                model,
                _neighbours(model, answer, values, image.neighbours),
            )
            for image, answer, values in zip(batch, answers, features, strict=True)
        ]

    def _use_features(
        self, model: ServedModel, answers: Sequence[Answer]
    ) -> Sequence[Values | None]:
        """The features of the images that were answered last, which are also logged."""
        predictions = [answer.prediction for answer in answers]
        features = self._features.by_image(predictions)
        if self._log is not None:
            self._log.add(model.classifier, model.name, predictions, features)
        return features


def _neighbours(
    model: ServedModel, answer: Answer, values: Values | None, count: int
) -> Sequence[TrainingImage]:
    if not count or values is None or answer.prediction.problem or model.training is None:
        return ()
    return model.training.most_similar(values, count)


def _cut(classification: Classification, top_k: int) -> Classification:
    return replace(classification, top=classification.top[:top_k])
