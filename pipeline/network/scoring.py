"""The scores of a network that is only evaluated, on all devices of its inputs."""

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from pipeline.network.feature_arrays import Rows
from pipeline.network.feature_store import Source, chunks
from pipeline.network.loading.streams import Streams, streams_of
from pipeline.network.views import EVALUATION

MAX_DOWNLOADS = 2  # of a device at the same time


@torch.no_grad()
def score_batches(suffix: nn.Module, source: Source, rows: Rows) -> Iterator[Tensor]:
    """Yield the scores of the evaluation view, float32 (B, classes) on the CPU, in order.

    Each device of `source` computes its batches, with a copy of `suffix`.
    """
    suffix.eval()
    copies: dict[torch.device, nn.Module] = {_device_of(suffix): suffix}
    streams: dict[torch.device, Streams] = {}
    downloads: deque[Any] = deque()
    for inputs in source.batches(chunks(rows, source.sub_batch), EVALUATION):
        where = inputs[0].device
        if where not in copies:
            copies[where] = copy.deepcopy(suffix).to(where)
        scores = copies[where](*inputs).float()
        downloads.append(streams.setdefault(where, streams_of(where)).download((scores,)))
        if len(downloads) > MAX_DOWNLOADS * len(copies):
            yield _take(downloads)
    while downloads:
        yield _take(downloads)


def _take(downloads: deque[Any]) -> Tensor:
    """The first of the scores on their way to the CPU."""
    (scores,), ready = downloads.popleft()
    ready.synchronize()
    return cast("Tensor", scores)


def logits(suffix: nn.Module, source: Source, rows: Rows) -> Tensor:
    """The scores of the evaluation view, float32 (len(rows), classes) on the CPU."""
    return torch.cat(list(score_batches(suffix, source, rows)))


def calibrated(scores: Tensor, temperature: float) -> Tensor:
    """Calibrated probabilities, float32 (B, C), of scores (B, C)."""
    return (scores.float() / temperature).softmax(dim=1)


def _device_of(module: nn.Module) -> torch.device:
    return next((value.device for value in module.parameters()), torch.device("cpu"))
