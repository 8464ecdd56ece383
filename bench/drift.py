"""How well `pipeline drift` estimates an accuracy: on altered test images, whose labels are known.

Run it in a project whose pipeline has run: python -m bench.drift
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.commands.drift.drift import compare_new
from pipeline.core import shards
from pipeline.core.split_csv import read_split
from pipeline.params import load_params

Picture = npt.NDArray[Any]  # uint8 (H, W, 3)

ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "as they are, but saved again": lambda pixels: pixels,
    "blurred, sigma 2 pixels": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 2),
    "blurred, sigma 6 pixels": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 6),
    "a quarter of the light": lambda pixels: (pixels * 0.25).astype(np.uint8),
    "negative": lambda pixels: 255 - pixels,
    "upside down": lambda pixels: pixels[::-1],
    "enlarged 3 times": lambda pixels: _enlarge(pixels, 3),
}


def _enlarge(pixels: Picture, factor: int) -> Picture:
    height, width = (side // factor for side in pixels.shape[:2])
    top, left = height * (factor // 2), width * (factor // 2)
    return cv2.resize(pixels[top : top + height, left : left + width], None, fx=factor, fy=factor)


def _test_images() -> Iterator[tuple[str, str, Picture]]:
    """The id, label and pixels of each test image."""
    labels = {
        row.id: row.label for row in read_split(Path("data/split.csv")) if row.split == "test"
    }
    for batch in shards.batches(Path("data/clean"), ["id", "bytes"], 64):
        for key, data in zip(batch.column("id").to_pylist(), batch.column("bytes"), strict=True):
            if key in labels:
                encoded = np.frombuffer(data.as_py(), np.uint8)
                pixels: Any = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
                yield key, labels[key], pixels


def main() -> None:
    """Print a row per alteration."""
    params = load_params()
    for name, alter in ALTERATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            images, workspace = Path(folder, "images"), Path(folder, "workspace")
            images.mkdir()
            labels = {}
            for key, label, pixels in _test_images():
                path = images / f"{key[:16]}.jpg"
                cv2.imwrite(str(path), alter(pixels), [cv2.IMWRITE_JPEG_QUALITY, 95])
                labels[str(path)] = label
            drift = compare_new([str(images)], params, 0.01, workspace)
            right = [
                labels[path] == answer
                for path, answer in zip(drift.new.names, drift.new.answers.classes, strict=True)
            ]
            test = drift.comparison.classifier
            print(
                f"| {name} | {len(right)} | {np.mean(right):.3f} | {drift.accuracy.accuracy:.3f} "
                f"({drift.describe_interval()}) | {drift.comparison.far.share:.0%} | "
                f"{test.auc if test else float('nan'):.2f} | {test.p if test else 1:.4f} |"
            )


if __name__ == "__main__":
    main()
