import io
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import decoding
from pipeline.images.pixels import Grey, Pixels
from pipeline.params import FilterParams
from pipeline.stages.filter import judgement
from pipeline.stages.filter.phash import perceptual_hash

LIMITS = FilterParams(
    min_side=32,
    max_megapixels=4,
    store_side=400,
    near_duplicate_bits=4,
    near_duplicate_crops=True,
    near_duplicates="keep",
    max_reject_fraction=0.2,
)
ORIENTATION = 0x0112
SEEDS = range(12)


@lru_cache(maxsize=64)
def photograph(seed: int, height: int = 300, width: int = 400) -> Pixels:
    """Detail at every scale, stronger at coarse scales, as in photographs."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24, 48, 96):
        coarse = random.normal(0, 1, (cells, cells * 4 // 3, 3))
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells
    picture -= picture.min()
    return np.asarray(picture * (255 / picture.max()), np.uint8)


def encode(picture: Pixels, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return file.getvalue()


def scale(picture: Pixels, by: float) -> Pixels:
    small = cv2.resize(picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def hash_of(data: bytes) -> int:
    result = judgement.judge(data, LIMITS)
    assert result.reason is None
    return result.phash


def grey(picture: Pixels) -> Grey:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def distance(first: int, second: int) -> int:
    return (first ^ second).bit_count()


def mostly_near(distances: list[int]) -> bool:
    return float(np.mean(np.array(distances) <= 4)) >= 0.9 and max(distances) <= 8


@pytest.mark.parametrize(
    "options", [{"quality": 60}, {"quality": 30}, {"progressive": True}, {"subsampling": 0}]
)
def test_a_picture_that_is_encoded_again_is_near(options: dict[str, Any]) -> None:
    pictures = [photograph(seed) for seed in SEEDS]
    assert mostly_near(
        [
            distance(hash_of(encode(picture, "PNG")), hash_of(encode(picture, "JPEG", **options)))
            for picture in pictures
        ]
    )


@pytest.mark.parametrize("by", [0.25, 0.5, 0.77, 1.3, 2.5])
def test_a_picture_that_is_scaled_is_near(by: float) -> None:
    pictures = [photograph(seed) for seed in SEEDS]
    assert mostly_near(
        [
            distance(hash_of(encode(picture, "JPEG")), hash_of(encode(scale(picture, by), "JPEG")))
            for picture in pictures
        ]
    )


@pytest.mark.parametrize(("factor", "offset"), [(0.8, 0), (0.7, 60), (1, 0)])
def test_brightness_and_contrast_do_not_change_the_hash(factor: float, offset: int) -> None:
    assert mostly_near(
        [
            distance(
                perceptual_hash(grey(photograph(seed))),
                perceptual_hash((grey(photograph(seed)) * factor + offset).astype(np.uint8)),
            )
            for seed in SEEDS
        ]
    )


def test_noise_hardly_changes_the_hash() -> None:
    random = np.random.default_rng(0)
    pictures = [grey(photograph(seed, 600, 800)) for seed in SEEDS]
    noisy = [np.clip(p + random.normal(0, 25, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    assert mostly_near(
        [
            distance(perceptual_hash(picture), perceptual_hash(other))
            for picture, other in zip(pictures, noisy, strict=True)
        ]
    )


def test_different_pictures_are_far_apart() -> None:
    hashes = [hash_of(encode(photograph(seed), "JPEG")) for seed in range(40)]
    distances = [distance(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(distances) > 12
    assert 28 < np.mean(distances) < 36


@pytest.mark.parametrize(
    "shape", [(48, 64), (64, 64), (65, 127), (128, 200), (300, 400), (400, 900), (399, 401)]
)
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}]
)
def test_a_jpeg_that_is_decoded_at_reduced_scale_is_near_to_its_lossless_copy(
    shape: tuple[int, int], options: dict[str, Any]
) -> None:
    for seed in range(3):
        data = encode(photograph(seed, *shape), "JPEG", quality=95, **options)
        assert judgement.judge(data, LIMITS).stored is None
        copy = encode(decoding.decode(data), "PNG")
        assert distance(hash_of(data), hash_of(copy)) <= 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_rotated_by_exif_is_near_to_its_upright_copy(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for seed in range(3):
        data = encode(photograph(seed, 600, 800), "JPEG", exif=exif)
        upright = encode(decoding.load(data, LIMITS.max_megapixels, 800)[1], "JPEG")
        assert distance(hash_of(data), hash_of(upright)) <= 4
        assert distance(hash_of(data), hash_of(encode(photograph(seed, 600, 800), "JPEG"))) > 12


def test_a_turned_picture_has_another_hash() -> None:
    for seed in SEEDS:
        picture = grey(photograph(seed))
        for other in (np.rot90(picture), picture[::-1], picture[:, ::-1]):
            assert distance(perceptual_hash(picture), perceptual_hash(other.copy())) > 12


@settings(derandomize=True, max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32))
def test_any_grey_picture_has_a_hash_of_64_bits(height: int, width: int, seed: int) -> None:
    picture: npt.NDArray[np.uint8] = np.random.default_rng(seed).integers(
        0, 256, (height, width), dtype=np.uint8
    )
    assert 0 <= perceptual_hash(picture) < 2**64
    assert perceptual_hash(picture) == perceptual_hash(picture.copy())


def test_half_of_the_bits_of_a_photograph_are_set() -> None:
    assert {perceptual_hash(grey(photograph(seed))).bit_count() for seed in SEEDS} == {32}
