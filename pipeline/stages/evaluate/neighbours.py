"""The training images that are most like the mistakes, to the frozen part of the network.

A mistake whose neighbours have its predicted class may be mislabelled, or look like that class; one
whose neighbours are unlike it shows what the training images lack.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.core import shards
from pipeline.images import decoding
from pipeline.images.pixels import Pixels
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.feature_maps import average_maps
from pipeline.network.feature_store import Source, StoredFeatures, chunks
from pipeline.network.views import EVALUATION, EncodedImages
from pipeline.stages.evaluate.photographs import shrink

PER_MISTAKE = 3
MAX_TRAINING = 20_000  # images that are searched
MAX_VALUES = 50_000_000  # of their features that are read: 200 MB in float32
SIDE = 128  # pixels of a picture
BATCH = 500  # images

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Neighbour:
    """A training image."""

    pixels: Pixels
    """Of at most `SIDE` pixels each way."""
    label: str
    similarity: float
    """Cosine, in -1..1."""


@dataclass(frozen=True)
class Neighbours:
    """Of some test images."""

    of_images: Sequence[Sequence[Neighbour]]
    """The most similar first; at most `PER_MISTAKE`."""
    searched: int
    """Training images, the first by id, which is a random but stable choice; 0 if none can be
    searched, because no features are stored."""
    training: int
    """Training images in all."""


def find_neighbours(source: Source, examples: Examples, rows: Rows, clean: Path) -> Neighbours:
    """The neighbours of test images, in the order of `rows`.

    Args:
        source: Stored features; of others there are no neighbours, as they would be computed anew.
        rows: Of split.csv.
    """
    training = examples.rows("train")
    if not isinstance(source, StoredFeatures) or not len(rows):
        return Neighbours([[] for _ in rows], 0, len(training))
    queries = torch.cat(list(_directions(source, rows)))
    searched = training[: min(MAX_TRAINING, max(1, MAX_VALUES // source.values_per_image))]
    places, similarities = _nearest(queries, _directions(source, searched))
    nearest = searched[places]
    unique_rows = np.unique(nearest)
    pictures = dict(zip(unique_rows.tolist(), _pictures(examples, unique_rows, clean), strict=True))
    of_images = [
        [
            Neighbour(pictures[row], examples.classes[int(examples.labels[row])], similarity)
            for row, similarity in zip(of_image, by_place, strict=True)
        ]
        for of_image, by_place in zip(nearest.tolist(), similarities.tolist(), strict=True)
    ]
    return Neighbours(of_images, len(searched), len(training))


def _directions(source: StoredFeatures, rows: Rows) -> Iterator[Tensor]:
    """Batches (B, F) of features of length 1; maps of features are averaged over the image."""
    for tensors in source.batches(chunks(rows, BATCH, least=1), EVALUATION):
        pooled = torch.cat([average_maps(tensor.float().cpu()) for tensor in tensors], dim=1)
        yield functional.normalize(pooled)


def _nearest(
    queries: Tensor, batches: Iterator[Tensor]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(Q, K) Places of the most similar images in `batches`, and their similarities."""
    similarities = torch.cat([queries @ batch.T for batch in batches], dim=1)
    count = min(PER_MISTAKE, similarities.shape[1])
    values, places = similarities.topk(count, dim=1)
    return places.numpy(), values.double().numpy()


def _pictures(examples: Examples, rows: Rows, clean: Path) -> Iterator[Pixels]:
    stored = EncodedImages(clean, examples.ids.take(shards.array(rows)))
    for data in stored:
        yield shrink(decoding.decode(data), SIDE)
