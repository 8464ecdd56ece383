"""What the limits of `pipeline review` flag: of photographs as they are, and of ones made bad.

    python -m bench.quality ZIP... [--most 3000] [--spoilt 300]

Photographs are spoilt as cameras do it, at the scale of the measurement: out of focus (a Gaussian),
shaken (a line), too short or too long an exposure (in stops, in linear light).
"""

import argparse
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.commands.review.quality import CHECKS, SIDE, ImageProperties, measure
from pipeline.images.decoding import load
from pipeline.images.header import Unreadable
from pipeline.images.pixels import Pixels

STORE_SIDE, MAX_MEGAPIXELS = 400, 50  # as in params.yaml


def blurred(sigma: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.uint8)


def shaken(pixels: Pixels) -> Pixels:
    return cv2.filter2D(pixels, -1, np.full((1, 15), 1 / 15, np.float32)).astype(np.uint8)


def exposed(stops: float) -> Callable[[Pixels], Pixels]:
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear * 2.0**stops, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    table = np.round(encoded * 255).astype(np.uint8)
    return lambda pixels: table[pixels]


SPOILT = {
    "blurred, 1.5 pixels": blurred(1.5),
    "blurred, 2 pixels": blurred(2),
    "shaken, 15 pixels": shaken,
    "2 stops too dark": exposed(-2),
    "3 stops too dark": exposed(-3),
    "2 stops too bright": exposed(2),
    "3 stops too bright": exposed(3),
}


def photographs(archive: Path, most: int) -> Iterator[Pixels]:
    """A random choice of the images in a zip that the filter can read."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if not name.endswith("/"))
        random.Random(0).shuffle(names)
        for name in names[:most]:
            try:
                yield load(file.read(name), MAX_MEGAPIXELS, STORE_SIDE)[1]
            except Unreadable:
                continue


def kinds(quality: ImageProperties) -> list[str]:
    return [kind.value for kind, check in CHECKS.items() if check.is_flagged(vars(quality))]


def scaled(pixels: Pixels) -> Pixels:
    scale = min(1, SIDE / min(pixels.shape[:2]))
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(
        np.uint8
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--most", type=int, default=3000, help="photographs of each archive")
    parser.add_argument("--spoilt", type=int, default=300, help="of these, made bad too")
    options = parser.parse_args()
    for archive in options.archives:
        flagged: Counter[str] = Counter()
        spoilt: Counter[tuple[str, str]] = Counter()
        count = 0
        for count, pixels in enumerate(photographs(archive, options.most), 1):
            flagged.update(kinds(measure(pixels)))
            if count <= options.spoilt:
                for name, spoil in SPOILT.items():
                    bad = spoil(scaled(pixels))
                    spoilt.update((name, kind) for kind in kinds(measure(bad)))
        print(f"{archive.name}: {count} images")
        for check in CHECKS:
            print(f"  {check.value}: {flagged[check]} ({flagged[check] / count:.2%})")
        made = min(count, options.spoilt)
        for name in SPOILT:
            hits = {kind: number for (other, kind), number in spoilt.items() if other == name}
            print(f"  {name}:", ", ".join(f"{k} {n / made:.0%}" for k, n in sorted(hits.items())))


if __name__ == "__main__":
    main()
