"""Predict for any number of images: decoding and forward passes overlap, memory stays constant."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.images.pixels import Pixels
from pipeline.inference.classifier import Classification, Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.network import device
from pipeline.network.loading.parallel_forward import SUB_BATCH

MAX_BATCH_BYTES = 2**24  # of encoded images; a batch is closed early when it has more


@dataclass(frozen=True)
class NamedImage:
    """An image and its name in the input."""

    name: str
    content: bytes | str
    """Its bytes, or the reason why there are none."""


@dataclass(frozen=True)
class Answer:
    """The prediction for an image."""

    image: NamedImage
    prediction: Classification
    view: Tensor | None
    """The network's input, uint8 (3, size, size); None if there is a problem."""


def predict(
    classifier: Classifier, decoders: DecoderPool, images: Iterable[NamedImage], top_k: int = 1
) -> Iterator[Answer]:
    """Yield an answer per image, in order. A few batches are in memory at a time."""
    cores = torch.get_num_threads()
    batches: deque[list[NamedImage]] = deque()
    running: deque[Future[list[Answer]]] = deque()
    encoded, card = _encoded(images, batches), classifier.card
    with ThreadPoolExecutor(cores) as pool, device.one_thread_each():
        for decoded in decoders.decode(encoded, card.max_megapixels, card.store_side):
            running.append(pool.submit(answer_batch, classifier, batches.popleft(), decoded, top_k))
            if len(running) > cores:
                yield from running.popleft().result()
        for future in running:
            yield from future.result()


def _encoded(
    images: Iterable[NamedImage], batches: deque[list[NamedImage]]
) -> Iterator[list[bytes]]:
    """Yield the bytes of each batch of images; append the batch to `batches`."""
    batch: list[NamedImage] = []
    for image in images:
        batch.append(image)
        size = sum(len(image.content) for image in batch)
        if len(batch) == SUB_BATCH or size > MAX_BATCH_BYTES:
            batches.append(batch)
            yield _contents(batch)
            batch = []
    if batch:
        batches.append(batch)
        yield _contents(batch)


def _contents(batch: Sequence[NamedImage]) -> list[bytes]:
    return [image.content for image in batch if isinstance(image.content, bytes)]


def answer_batch(
    classifier: Classifier,
    batch: Sequence[NamedImage],
    decoded: Sequence[Pixels | str],
    top_k: int,
    is_independent: bool = False,
) -> list[Answer]:
    """An answer for each of at most `SUB_BATCH` images.

    Args:
        decoded: Pixels, or a problem, of each image that has bytes.
        is_independent: Whether no bit of an answer may depend on the other images.
    """
    compute = classifier.compute_independently if is_independent else classifier.compute
    next_decoded = iter(decoded)
    pixels_or_problems = [
        next(next_decoded) if isinstance(image.content, bytes) else image.content for image in batch
    ]
    views = [
        None if isinstance(pixels, str) else classifier.view(pixels)
        for pixels in pixels_or_problems
    ]
    valid_views = [view for view in views if view is not None]
    outputs = compute(torch.stack(valid_views)).rows() if valid_views else iter(())
    classifications = [
        Classification(problem=str(problem))
        if view is None
        else classifier.classify(next(outputs), top_k)
        for problem, view in zip(pixels_or_problems, views, strict=True)
    ]
    return [
        Answer(image, classification, view if classification.problem is None else None)
        for image, classification, view in zip(batch, classifications, views, strict=True)
    ]
