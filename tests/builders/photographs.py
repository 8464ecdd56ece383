"""Images with the detail of photographs, and altered copies of them."""

from collections.abc import Callable

import cv2
import numpy as np

from pipeline.images.pixels import Grey

Alteration = Callable[[Grey], Grey]


def draw_photograph(seed: int, height: int = 150, width: int = 200) -> Grey:
    """Clouds of every size, and some objects with edges."""
    random = np.random.default_rng(seed)
    scene = np.zeros((height, width), np.float32)
    for cells in (3, 6, 12, 24, 48):
        coarse = random.normal(0, 60 / cells**0.5, (cells, cells)).astype(np.float32)
        scene += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        centre = (int(random.integers(width)), int(random.integers(height)))
        axes = (int(random.integers(6, 30)), int(random.integers(6, 30)))
        level = float(random.normal(0, 60))
        cv2.ellipse(scene, centre, axes, float(random.integers(180)), 0, 360, level, -1)
    return np.asarray(np.clip(scene + 128, 0, 255).astype(np.uint8))


def crop(percent: float) -> Alteration:
    """Cut a share of the side off each side."""

    def alter(grey: Grey) -> Grey:
        rows, columns = (round(length * percent / 100) for length in grey.shape)
        return grey[rows : len(grey) - rows, columns : grey.shape[1] - columns]

    return alter


def crop_corner(percent: float) -> Alteration:
    """Cut a share of the side off the left and the top."""
    return lambda grey: grey[
        round(len(grey) * percent / 100) :, round(grey.shape[1] * percent / 100) :
    ]


def mirror(grey: Grey) -> Grey:
    return grey[:, ::-1]


def caption(grey: Grey) -> Grey:
    """Write on a white band over the lower eighth."""
    captioned = grey.copy()
    top = len(grey) * 7 // 8
    captioned[top:] = 255
    cv2.putText(captioned, "last summer", (8, len(grey) - 5), 0, 0.5, 0, 1, cv2.LINE_AA)
    return captioned


def frame(grey: Grey) -> Grey:
    return np.pad(grey, 10, constant_values=255)


def resize(factor: float) -> Alteration:
    return lambda grey: np.asarray(
        cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8
    )


ALTERATIONS: dict[str, Alteration] = {
    "crop of 3 %": crop(3),
    "crop of 5 %": crop(5),
    "crop of 10 %": crop(10),
    "crop of a corner": crop_corner(10),
    "mirrored": mirror,
    "mirrored crop": lambda grey: mirror(crop(5)(grey)),
    "caption": caption,
    "frame": frame,
    "resized crop": lambda grey: resize(0.7)(crop(5)(grey)),
}
