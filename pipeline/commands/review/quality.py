"""What pixels say of a photograph: blur, exposure and detail, for every image, remembered.

The properties are those of cleanvision (github.com/cleanlab/cleanvision); the limits are measured
on photographs, by bench/quality.py, and docs/review.md has what they flag.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from pipeline.commands.review.catalogue import FlagKind, Flags
from pipeline.images import decoder_versions, decoding, memo
from pipeline.images.mapping import map_images
from pipeline.images.pixels import Pixels

SIDE = 256  # pixels of the shorter side, to which larger images are scaled
WHITE = 250  # of 255, and above
MIN_SHARPNESS = 0.2
MIN_BRIGHTNESS = 0.5
MAX_WHITE, MAX_DARKEST = 0.25, 0.2
MIN_ENTROPY = 3.0  # bits; cleanvision's
MIN_ASPECT = 0.35  # cleanvision's


@dataclass(frozen=True)
class ImageProperties:
    """Properties of an image, most of them of the grey picture; brightness is from 0 to 1."""

    sharpness: float
    """Standard deviation of the Laplacian, relative to that of the brightness (Pech-Pacheco et al.,
    2000): neither exposure nor contrast changes it."""
    brightest: float
    """Brightness that 1 % of the pixels exceed."""
    darkest: float
    """Brightness that 5 % of the pixels do not reach."""
    white: float
    """Share of the pixels that are nearly white."""
    entropy: float
    """Of the histogram, in bits: 0 for one grey, 8 if all are as frequent."""
    aspect: float
    """Shorter side divided by the longer."""


SCHEMA = pa.schema([(field.name, pa.float32()) for field in fields(ImageProperties)])


def measure(pixels: Pixels) -> ImageProperties:
    """Measure an image (height, width, 3) in RGB."""
    grey = decoding.to_grey(_scaled(pixels))
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    cumulated = shares.cumsum()
    brightest, darkest = (int(np.searchsorted(cumulated, share)) / 255 for share in (0.99, 0.05))
    frequent = shares[shares > 0]
    entropy = -float((frequent * np.log2(frequent)).sum())
    contrast = float(grey.std())
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    sharpness = float(edges.std()) / contrast if contrast else 0.0
    white = float(shares[WHITE:].sum())
    aspect = min(pixels.shape[:2]) / max(pixels.shape[:2])
    return ImageProperties(sharpness, brightest, darkest, white, entropy, aspect)


def _scaled(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = SIDE / min(height, width)
    if scale >= 1:
        return pixels
    size = (round(width * scale), round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def measure_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Measure the rows of a clean shard."""
    rows = [vars(measure(decoding.decode(data.as_py(), SIDE))) for data in batch.column("bytes")]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


@dataclass(frozen=True)
class _Check:
    """One kind of flag by the values of an image."""

    is_flagged: Callable[[Mapping[str, float]], bool]
    rank: Callable[[Mapping[str, float]], float]
    """Smaller is a clearer case."""
    note: str
    """A format of the values."""


CHECKS = {
    FlagKind.BLURRED: _Check(
        lambda image: image["sharpness"] < MIN_SHARPNESS,
        lambda image: image["sharpness"],
        "blurred: sharpness {sharpness:.2f}",
    ),
    FlagKind.DARK: _Check(
        lambda image: image["brightest"] < MIN_BRIGHTNESS,
        lambda image: image["brightest"],
        "dark: 99 % of it below {brightest:.0%} of white",
    ),
    FlagKind.OVEREXPOSED: _Check(
        lambda image: image["white"] > MAX_WHITE and image["darkest"] > MAX_DARKEST,
        lambda image: -image["white"],
        "over-exposed: {white:.0%} of it white",
    ),
    FlagKind.LITTLE_DETAIL: _Check(
        lambda image: image["entropy"] < MIN_ENTROPY,
        lambda image: image["entropy"],
        "little detail: {entropy:.1f} bits",
    ),
    FlagKind.ODD_SHAPE: _Check(
        lambda image: image["aspect"] < MIN_ASPECT,
        lambda image: image["aspect"],
        "odd shape: one side {aspect:.0%} of the other",
    ),
}


def find_flags(clean: Path) -> dict[FlagKind, Flags]:
    """The images of a folder of clean shards whose pixels are unusual, by kind."""
    cases: dict[FlagKind, list[tuple[float, str, str]]] = {kind: [] for kind in CHECKS}
    key = memo.fingerprint(
        {"codecs": decoder_versions.codecs()}, [__name__], decoder_versions.LIBRARIES
    )
    measured = map_images(
        measure_batch, clean, memo=memo.Memo("review", key, SCHEMA), title="review: measure"
    )
    for batch, results in measured:
        for image, values in zip(batch.column("id"), results.to_pylist(), strict=True):
            for kind, check in CHECKS.items():
                if check.is_flagged(values):
                    note = check.note.format(**values)
                    cases[kind].append((check.rank(values), image.as_py(), note))
    return {
        kind: Flags([image for _, image, _ in ranked], [note for _, _, note in ranked])
        for kind, ranked in ((kind, sorted(images)) for kind, images in cases.items())
    }
