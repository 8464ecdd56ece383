import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.network.loading import parallel_forward
from pipeline.network.loading.parallel_forward import (
    DEPTH,
    LOOKAHEAD,
    SUB_BATCH,
    DeviceForward,
    Tensors,
)
from pipeline.network.views import EVALUATION, Preprocess, Views
from tests.fakes.numbered_images import SIZE, NumberedImages

PREPROCESS = Preprocess(size=16, resize=16, interpolation="bilinear", mean=[0.0] * 3, std=[1.0] * 3)
CPU = torch.device("cpu")
DEVICE_BATCH = 48


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


@pytest.fixture(scope="module")
def two_devices() -> Iterator[DeviceForward]:
    """Two devices, which are the CPU, and two processes that decode for them."""
    device_forward = DeviceForward([CPU, CPU], [mean, mean], SIZE, DEVICE_BATCH, processes=2)
    yield device_forward
    device_forward.close()


@pytest.fixture
def numbered(tmp_path: Path) -> NumberedImages:
    return NumberedImages(tmp_path)


def means(numbered: NumberedImages, indices: Sequence[int]) -> Tensor:
    return torch.tensor(np.stack([numbered[index].mean((1, 2)) for index in indices])).float()


@pytest.mark.parametrize(
    "order",
    [
        [[2, 0], [3], [1, 0, 3]],
        [list(range(DEVICE_BATCH)), [5]],
        [list(range(3 * DEVICE_BATCH, 0, -1)), [7], list(range(100, 100 + DEVICE_BATCH + 3))],
        [],
    ],
    ids=["small", "a batch and one", "mixed", "none"],
)
def test_devices_yield_lists_whole_and_in_order(
    numbered: NumberedImages, two_devices: DeviceForward, order: list[list[int]]
) -> None:
    for (values, corner), indices in zip(two_devices(numbered, order), order, strict=True):
        assert torch.equal(values, means(numbered, indices))
        assert len(corner) == len(indices)


def test_a_pass_in_a_pass_gets_its_own_views(
    numbered: NumberedImages, two_devices: DeviceForward
) -> None:
    """As the validation in the middle of an epoch."""
    rows = list(range(6 * DEVICE_BATCH))
    outer = two_devices(numbered, [[row] for row in rows])
    values = [next(outer)[0]]
    (inner,) = two_devices(numbered, [rows[::-1]])
    values += [value for value, _ in outer]
    assert torch.equal(torch.cat(values), means(numbered, rows))
    assert torch.equal(inner[0], means(numbered, rows[::-1]))


def test_a_pass_that_is_given_up_leaves_no_views_to_the_next(
    numbered: NumberedImages, two_devices: DeviceForward
) -> None:
    rows = list(range(6 * DEVICE_BATCH))
    given_up = two_devices(numbered, [[row] for row in rows])
    next(given_up)
    del given_up
    ((values, _),) = two_devices(numbered, [rows[::-1]])
    assert torch.equal(values, means(numbered, rows[::-1]))


def test_sub_batches_go_to_the_devices_in_turn(numbered: NumberedImages) -> None:
    sizes: tuple[list[int], list[int]] = ([], [])

    def recording(number: int, pixels: Tensor) -> Tensors:
        sizes[number].append(len(pixels))
        return mean(pixels)

    forwards = [partial(recording, 0), partial(recording, 1)]
    device_forward = DeviceForward([CPU, CPU], forwards, SIZE, DEVICE_BATCH, processes=1)
    try:
        list(device_forward(numbered, [list(range(2 * DEVICE_BATCH + 5)), [1, 2]]))
    finally:
        device_forward.close()
    assert sizes == ([DEVICE_BATCH, 7], [DEVICE_BATCH])


def test_values_for_the_host_have_the_stored_type(
    numbered: NumberedImages, two_devices: DeviceForward
) -> None:
    ((values, _),) = two_devices(numbered, [[3, 1]], torch.float16)
    assert torch.equal(values, means(numbered, [3, 1]).half())


def test_a_device_has_batches_to_compute_while_a_result_is_used(numbered: NumberedImages) -> None:
    computed: list[int] = []

    def recording(pixels: Tensor) -> Tensors:
        computed.append(len(pixels))
        return mean(pixels)

    device_forward = DeviceForward([CPU], [recording], SIZE, DEVICE_BATCH, processes=1)
    try:
        results = device_forward(numbered, [[row] * DEVICE_BATCH for row in range(10)])
        next(results)
    finally:
        device_forward.close()
    assert len(computed) == 1 + DEPTH


def test_the_order_is_read_no_further_than_needed(
    numbered: NumberedImages, two_devices: DeviceForward, views: Views
) -> None:
    """So that the size of later lists can depend on how long the first ones took."""
    read: list[int] = []

    def order() -> Iterator[list[int]]:
        for number in range(len(views)):
            read.append(number)
            yield [number]

    results = two_devices(numbered, order())
    next(results)
    assert len(read) <= 8 * DEVICE_BATCH
    results = parallel_forward.overlapped(views, order(), mean, CPU, window=2 * SUB_BATCH)
    read.clear()
    next(results)
    assert len(read) < len(views) / 2


def test_decoding_ahead_draws_no_random_numbers(
    numbered: NumberedImages, two_devices: DeviceForward
) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    list(two_devices(numbered, [list(range(40))]))
    assert torch.equal(torch.get_rng_state(), state)


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
