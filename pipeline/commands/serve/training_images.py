"""The training images that are most like a picture, by the features of the network."""

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import torch

from pipeline.commands.credits.credits import Credit, read_credits
from pipeline.commands.serve.limits import refuse_when_busy
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.images import decoding
from pipeline.inference.classifier import Classifier
from pipeline.inference.pooled_features import Values, normalised, open_features
from pipeline.network import feature_store
from pipeline.network.examples import read_examples
from pipeline.network.feature_store import Index
from pipeline.network.views import EncodedImages
from pipeline.stages.evaluate.photographs import shrink

MAX_IMAGES = 5000  # that are searched
MAX_BYTES = 2**25  # of their features, which are in memory: a search reads all of them
SIDE = 200  # pixels, of the longer side of a thumbnail
MAX_WAITING = 32  # thumbnails
REMEMBERED = 500  # thumbnails, of some 8 kB each


@dataclass(frozen=True)
class TrainingImage:
    """A training image."""

    id: str
    label: str
    similarity: float
    """Cosine of the features, in -1..1."""
    credit: Credit


class TrainingImages:
    """The training images of the project: searched by features, drawn by id.

    If there are more than the limits allow, those at equal distances by id, which are a random but
    stable choice.
    """

    def __init__(self, data: Path) -> None:
        """
        Args:
            data: The folder with raw, clean, split.csv and features.

        Raises:
            PipelineError: one is missing or damaged, they do not fit together, or no features are
                stored.
        """
        self._features, clean = data / "features", data / "clean"
        if not (data / "split.csv").exists():
            raise PipelineError(f"there is no {data / 'split.csv'}: run `dvc repro` first")
        examples = read_examples(data / "split.csv", clean)
        features = open_features(self._features, examples)
        self._index: Index = feature_store.read_index(self._features)
        training = examples.rows("train")
        if not len(training):
            raise PipelineError(f"{data / 'split.csv'} has no training images")
        rows = features.thin(training, MAX_IMAGES, MAX_BYTES)
        # A tensor: torch computes on the one thread of each lane, numpy on those of all cores.
        self._values = torch.from_numpy(normalised(features.read_apart(rows)))
        self._ids = examples.ids_of(rows)
        self._labels = [examples.classes[label] for label in examples.labels[rows].tolist()]
        ids = examples.ids.take(rows)
        self._credits = read_credits(data / "raw", ids)
        self._stored = EncodedImages(clean, ids)
        self._places = {key: place for place, key in enumerate(self._ids)}
        self._lock = threading.Lock()
        self._waiting = threading.Semaphore(MAX_WAITING)
        self._draw = lru_cache(REMEMBERED)(self._draw_anew)
        self._all = len(training)

    def __len__(self) -> int:
        return len(self._ids)

    def __str__(self) -> str:
        images = plural(self._all, "training image")
        return images if self._all == len(self) else f"{len(self):,} of the {images}"

    def check_model(self, classifier: Classifier) -> None:
        """Raise PipelineError if a model's frozen part did not compute the features."""
        if not classifier.is_frozen_as(self._index.prefix, self._index.preprocess):
            raise PipelineError(
                f"{self._features} was not computed by the frozen part of this model: it is of "
                "another training, or its data are elsewhere"
            )

    def most_similar(self, values: Values, count: int) -> list[TrainingImage]:
        """Those nearest to an image with some features (D,), the nearest first; at most `count`."""
        query = torch.from_numpy(normalised(values[None])[0])
        similarities = (self._values @ query).nan_to_num(nan=-1)
        best, places = similarities.topk(min(count, len(similarities)))
        return [
            TrainingImage(self._ids[place], self._labels[place], similarity, self._credits[place])
            for place, similarity in zip(places.tolist(), best.tolist(), strict=True)
        ]

    def thumbnail(self, key: str) -> bytes | None:
        """A JPEG of the image with an id; None if there is no such training image.

        Raises:
            Refusal: too many wait.
            PipelineError: another run has replaced its shard.
        """
        place = self._places.get(key)
        if place is None:
            return None
        if not self._waiting.acquire(blocking=False):
            raise refuse_when_busy()
        try:
            with self._lock:  # one at a time, so that predictions keep most of the cores
                return self._draw(place)
        finally:
            self._waiting.release()

    def _draw_anew(self, place: int) -> bytes:
        try:
            if self._stored.ids[place] != self._ids[place]:
                raise IndexError(place)
            data = self._stored[place]
        except (OSError, IndexError) as error:
            raise PipelineError("the training images were replaced by another run") from error
        pixels = shrink(decoding.decode(data), SIDE)
        return cv2.imencode(".jpg", pixels[:, :, ::-1])[1].tobytes()
