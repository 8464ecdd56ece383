"""Images through the decoders and the network, so that neither waits, in flat memory."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.images.decoding import Pixels
from pipeline.inference.classifier import Classification, Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.network import device
from pipeline.network.parallel_forward import SUB_BATCH

PART_BYTES = 2**24  # of encoded images, after which a part is closed before it is full


@dataclass(frozen=True)
class NamedImage:
    """One image as it was named."""

    name: str
    content: bytes | str
    """Its bytes, or the reason why there are none."""


@dataclass(frozen=True)
class Answer:
    """What was said of an image, and what the network was shown of it."""

    image: NamedImage
    prediction: Classification
    view: Tensor | None
    """uint8 (3, size, size); None where there is a problem."""


def predict(
    classifier: Classifier, decoders: DecoderPool, images: Iterable[NamedImage], top_k: int = 1
) -> Iterator[Answer]:
    """One answer per image, in order; a few parts of `feed.PART` images are held at a time."""
    cores = torch.get_num_threads()
    parts: deque[list[NamedImage]] = deque()
    running: deque[Future[list[Answer]]] = deque()
    encoded, card = _encoded(images, parts), classifier.card
    with ThreadPoolExecutor(cores) as pool, device.one_thread_each():
        for decoded in decoders.decode(encoded, card.max_megapixels, card.store_side):
            running.append(pool.submit(_answers, classifier, parts.popleft(), decoded, top_k))
            if len(running) > cores:
                yield from running.popleft().result()
        for future in running:
            yield from future.result()


def _encoded(images: Iterable[NamedImage], parts: deque[list[NamedImage]]) -> Iterator[list[bytes]]:
    """The bytes of each part, which is kept in `parts` meanwhile."""
    part: list[NamedImage] = []
    for image in images:
        part.append(image)
        if len(part) == SUB_BATCH or sum(len(each.content) for each in part) > PART_BYTES:
            parts.append(part)
            yield _bytes_of(part)
            part = []
    if part:
        parts.append(part)
        yield _bytes_of(part)


def _bytes_of(part: Sequence[NamedImage]) -> list[bytes]:
    return [each.content for each in part if isinstance(each.content, bytes)]


def _answers(
    classifier: Classifier, part: Sequence[NamedImage], decoded: Sequence[Pixels | str], top_k: int
) -> list[Answer]:
    found = iter(decoded)
    seen = [next(found) if isinstance(each.content, bytes) else each.content for each in part]
    views = [None if isinstance(each, str) else classifier.view(each) for each in seen]
    shown = [view for view in views if view is not None]
    chances = iter(classifier.probabilities(torch.stack(shown)) if shown else ())
    return [
        Answer(image, Classification(problem=str(what)), None)
        if view is None
        else Answer(image, classifier.answer(next(chances), top_k), view)
        for image, what, view in zip(part, seen, views, strict=True)
    ]
