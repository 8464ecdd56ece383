"""scikit-learn's handwritten digits, as PNGs."""

from collections.abc import Iterator

import cv2
import numpy as np

from pipeline.datasets.dataset_toml import DigitsDataset
from pipeline.stages.acquire.raw_image import RawImage

SCALE = 4  # 8x8 pixels become 32x32, by repetition: large enough for filter.min_side
WHITE = 16  # largest value in the data set


def read_images(dataset: DigitsDataset) -> Iterator[RawImage]:
    """Yield the 1,797 digits in the data set's order.

    Source: https://archive.ics.uci.edu/dataset/80 (the test part), as scikit-learn ships it.
    """
    from sklearn.datasets import load_digits  # takes a second; only this kind needs it

    digits = load_digits()
    for number, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        grey = np.rint(values * (255 / WHITE)).astype(np.uint8)
        large = grey.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        _, data = cv2.imencode(".png", cv2.cvtColor(large, cv2.COLOR_GRAY2BGR))
        name = f"{label}/{number:04d}.png"
        yield RawImage(name, str(label), data.tobytes(), licence=dataset.licence)
