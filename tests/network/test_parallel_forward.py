import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.network import parallel_forward
from pipeline.network.parallel_forward import LOOKAHEAD, SUB_BATCH, Tensors
from pipeline.network.views import EVALUATION, Preprocess, Views

PREPROCESS = Preprocess(size=16, resize=16, interpolation="bilinear", mean=[0.0] * 3, std=[1.0] * 3)
CPU = torch.device("cpu")


@pytest.fixture
def views() -> Views:
    """More images than fit one window, each of another colour."""
    count = LOOKAHEAD + 2 * SUB_BATCH + 5
    colours = [(number % 251, number // 251, 7) for number in range(count)]
    encoded = [
        cv2.imencode(".png", np.full((16, 16, 3), colour, np.uint8))[1].tobytes()
        for colour in colours
    ]
    return Views([str(number) for number in range(count)], encoded, PREPROCESS, None, [EVALUATION])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def mean(pixels: Tensor) -> Tensors:
    return pixels.float().mean(dim=(2, 3)), pixels[:, :, 0, 0]


def expected(views: Views, indices: list[int]) -> Tensor:
    return torch.stack([views[index].float().mean(dim=(1, 2)) for index in indices])


@pytest.mark.parametrize(
    "order",
    [
        [[2, 0], [3], [1, 0, 3]],
        [list(range(SUB_BATCH)), [5]],
        [list(range(SUB_BATCH + 1))],
        [list(range(3 * SUB_BATCH, 0, -1)), [7], list(range(SUB_BATCH, 2 * SUB_BATCH + 3))],
        [list(range(LOOKAHEAD + 2 * SUB_BATCH + 5))],
        [],
    ],
    ids=["small", "a batch", "a batch and one", "mixed", "more than a window", "none"],
)
def test_lists_are_yielded_whole_and_in_order(views: Views, order: list[list[int]]) -> None:
    batches = list(parallel_forward.overlapped(views, order, mean, CPU))
    assert len(batches) == len(order)
    for (values, corner), indices in zip(batches, order, strict=True):
        assert torch.equal(values, expected(views, indices))
        assert len(corner) == len(indices)


def test_the_function_gets_sub_batches_across_lists(views: Views) -> None:
    sizes = []

    def recording(pixels: Tensor) -> Tensors:
        sizes.append(len(pixels))
        return mean(pixels)

    list(
        parallel_forward.overlapped(views, [list(range(2 * SUB_BATCH + 5)), [1, 2]], recording, CPU)
    )
    assert sorted(sizes) == [7, SUB_BATCH, SUB_BATCH]  # whichever lists they are of


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.usefixtures("threads")
def test_a_sub_batch_has_one_thread_and_the_consumer_has_all(views: Views, count: int) -> None:
    torch.set_num_threads(count)
    inside: list[tuple[int, int]] = []

    def recording(pixels: Tensor) -> Tensors:
        inside.append((torch.get_num_threads(), threading.get_ident()))
        return mean(pixels)

    for _ in parallel_forward.overlapped(views, [[number] for number in range(12)], recording, CPU):
        assert torch.get_num_threads() == count
    assert {threads for threads, _ in inside} == {1}
    assert len({thread for _, thread in inside}) <= count


def test_an_error_in_the_function_is_raised(views: Views) -> None:
    def fail(_: Tensor) -> Tensors:
        raise ValueError("wrong")

    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="wrong"):
        list(parallel_forward.overlapped(views, [[1], [2]], fail, CPU))
    assert torch.get_num_threads() == before


@pytest.mark.filterwarnings("ignore:.*pin_memory")
def test_processes_that_decode_ahead_give_the_same_and_draw_no_numbers(
    views: Views, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    order = [list(range(SUB_BATCH + 3)), [9, 4]]
    parts = [[*range(SUB_BATCH)], [SUB_BATCH, SUB_BATCH + 1, SUB_BATCH + 2], [9, 4]]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    ahead = list(parallel_forward._on_accelerator(views, parts, mean))
    assert torch.equal(torch.get_rng_state(), state)
    joined: Any = [torch.cat([ahead[0][0], ahead[1][0]]), ahead[2][0]]
    for (values, _), other in zip(
        parallel_forward.overlapped(views, order, mean, CPU), joined, strict=True
    ):
        assert torch.equal(values, other)


@given(sizes=st.lists(st.integers(1, 9), max_size=12), part=st.integers(1, 7))
def test_rows_are_regrouped_in_their_order(sizes: list[int], part: int) -> None:
    rows = torch.arange(sum(sizes))
    parts = iter([(piece, piece * 2) for piece in torch.split(rows, part)] if len(rows) else [])
    groups = list(parallel_forward._regroup(parts, sizes))
    assert [len(values) for values, _ in groups] == sizes
    for number, values in enumerate(zip(*groups, strict=True), start=1):
        assert torch.equal(torch.cat(values), rows * number)


def test_no_more_than_a_window_is_computed_ahead(views: Views) -> None:
    sizes: list[int] = []

    def recording(pixels: Tensor) -> Tensors:
        sizes.append(len(pixels))
        return (pixels[:, 0, 0, 0],)

    order = [[number] for number in range(20 * SUB_BATCH)]
    next(
        parallel_forward.overlapped(
            views, order, recording, torch.device("cpu"), window=2 * SUB_BATCH
        )
    )
    assert sum(sizes) <= max(2, torch.get_num_threads()) * SUB_BATCH
