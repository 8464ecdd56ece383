"""CIFAR-10's binary batches: records of one byte for the class and 3,072 for the pixels.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version"
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

import cv2
import numpy as np

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.raw_image import RawImage

SIDE = 32  # pixels
RECORD = 1 + 3 * SIDE * SIDE  # bytes
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def is_batch(name: str) -> bool:
    """Whether a member of the archive is a file of records, by its name."""
    last = PurePosixPath(name).name
    return last.endswith(".bin") and last.startswith(("data_batch", "test_batch"))


def read_records(name: str, data: bytes, licence: str | None) -> Iterator[RawImage]:
    """Yield the records of one batch as PNGs.

    Raises:
        PipelineError: `data` is not a sequence of such records.
    """
    records = np.frombuffer(data, np.uint8)
    if not data or len(data) % RECORD or records[::RECORD].max() >= len(CLASSES):
        raise PipelineError(f"{name} is not a file of CIFAR-10 records of {RECORD} bytes")
    batch = PurePosixPath(name).stem
    split = "test" if batch.startswith("test") else "train"
    for number, record in enumerate(records.reshape(-1, RECORD)):
        label = CLASSES[record[0]]
        red, green, blue = record[1:].reshape(3, SIDE, SIDE)
        _, png = cv2.imencode(".png", np.dstack([blue, green, red]))
        yield RawImage(f"{batch}/{label}/{number:05d}.png", label, png.tobytes(), split, licence)
