from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.network import scoring
from pipeline.network.feature_arrays import Rows
from pipeline.network.loading.parallel_forward import Tensors


class RowNumbers:
    """A source of inputs that are the numbers of their rows."""

    sub_batch = 2

    def batches(self, order: Sequence[Rows], _view: int) -> Iterator[Tensors]:
        for rows in order:
            yield (torch.from_numpy(rows).float()[:, None],)


def test_scores_come_in_the_order_of_the_rows_without_dropout() -> None:
    suffix = nn.Sequential(nn.Identity(), nn.Dropout(0.9)).train()
    scores = scoring.logits(suffix, RowNumbers(), np.array([4, 2, 9, 1, 5]))
    assert scores.flatten().tolist() == [4, 2, 9, 1, 5]


def test_every_device_computes_with_a_copy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the inputs are on the CPU, and the module says that it is elsewhere."""
    suffix = nn.Sequential(nn.Linear(1, 1))
    monkeypatch.setattr(scoring, "_device_of", lambda _: torch.device("meta"))
    calls: list[nn.Module] = []
    suffix[0].register_forward_pre_hook(lambda module, _: calls.append(module))
    scores = scoring.logits(suffix, RowNumbers(), np.array([4, 2, 9, 1, 5]))
    assert torch.equal(
        scores,
        torch.cat([suffix(row) for row in torch.tensor([[4.0], [2], [9], [1], [5]])])[:, None],
    )
    copies = set(calls[:2])
    assert len(copies) == 1  # one copy for all batches, with the hooks of the module
    assert suffix[0] not in copies
