from pathlib import Path

import cv2
import numpy as np
import torch

from pipeline import shards, views
from pipeline.model import USUAL
from pipeline.views import EVALUATION, Views

PREPARED = USUAL.model_copy(update={"size": 32, "resize": 36})
CPU = torch.device("cpu")


def encoded(count: int) -> list[bytes]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (40, 60, 3), np.uint8) for _ in range(count)]
    return [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]


def made(view: int, seed: int = 1) -> Views:
    return Views([str(number) for number in range(4)], encoded(4), PREPARED, view, seed)


def test_a_view_depends_on_neither_order_nor_the_global_generator() -> None:
    forward = [made(1)[number] for number in range(4)]
    torch.manual_seed(99)
    backward = [made(1)[number] for number in reversed(range(4))]
    assert all(map(torch.equal, forward, reversed(backward)))


def test_seed_image_and_view_each_change_an_augmented_view() -> None:
    first = made(1)[0]
    assert not torch.equal(first, made(2)[0])
    assert not torch.equal(first, made(1, seed=2)[0])
    same_picture = Views(["other"], encoded(1), PREPARED, 1, 1)
    assert not torch.equal(first, same_picture[0])


def test_the_evaluation_view_has_no_chance_in_it() -> None:
    assert torch.equal(made(EVALUATION, seed=1)[0], made(EVALUATION, seed=2)[0])


def test_making_a_view_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    made(1)[0]
    assert torch.equal(torch.rand(1), expected)


def test_batches_come_in_the_order_asked_for() -> None:
    seen = made(EVALUATION)
    first, second = views.batches(seen, [[2, 0], [3]], CPU)
    assert first.shape == (2, 3, 32, 32)
    assert torch.equal(first[0], seen[2])
    assert torch.equal(second[0], seen[3])


def test_normalising_brings_the_weights_mean_to_zero() -> None:
    grey = torch.tensor(PREPARED.mean).mul(255).round().byte().view(1, 3, 1, 1).expand(2, 3, 4, 4)
    assert PREPARED.normalise(grey).abs().max() < 0.01
    assert PREPARED.normalise(grey).is_contiguous(memory_format=torch.channels_last)


def test_stored_images_are_found_by_id_across_shards(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "label": "a", "name": "n", "width": 1, "height": 1, "phash": 0,
         "bytes": f"image {n}".encode()}
        for n in range(2 * shards.ROWS)
    ]  # fmt: skip
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    stored = views.Stored(tmp_path / "clean", ["1500", "3"])
    assert list(stored) == [b"image 1500", b"image 3"]
