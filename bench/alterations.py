"""Alterations of photographs that leave a near-duplicate."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.images.pixels import Pixels

Alteration = Callable[[Pixels, np.random.Generator], Pixels]
CUT = (1, 2, 3, 5, 7, 10, 15)  # percent
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, BLACK, BROWN = (255, 255, 255), (0, 0, 0), (120, 60, 30)


@dataclass(frozen=True)
class Copy:
    """How a copy is made."""

    alter: Alteration
    quality: int = 85
    """Of its JPEG."""


def cut_off(pixels: Pixels, left: float, upper: float, right: float, lower: float) -> Pixels:
    """Cut shares of the sides off."""
    height, width = pixels.shape[:2]
    rows = slice(round(upper * height), height - round(lower * height))
    return pixels[rows, round(left * width) : width - round(right * width)]


def even_crop(percent: float) -> Alteration:
    """Cut as much off each of the four sides."""
    return lambda pixels, _: cut_off(pixels, *[percent / 100] * 4)


def uneven_crop(percent: float) -> Alteration:
    """Cut this much off one side, and less off the others."""

    def alter(pixels: Pixels, random: np.random.Generator) -> Pixels:
        shares = random.random(4) * percent / 100
        shares[random.integers(4)] = percent / 100
        return cut_off(pixels, *shares)

    return alter


def mirror(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return pixels[:, ::-1]


def same(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return pixels


def halve(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return _resize(pixels, pixels.shape[1] // 2, pixels.shape[0] // 2)


def squash(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return _resize(pixels, 224, 224)


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    size = (width, height)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def brighten(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return np.asarray(np.clip(pixels * 1.25 + 10, 0, 255).astype(np.uint8))


def turn(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Turn by three degrees, and cut the corners off."""
    height, width = pixels.shape[:2]
    rotation = cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1)
    turned = cv2.warpAffine(pixels, rotation, (width, height)).astype(np.uint8, copy=False)
    return cut_off(turned, 0.05, 0.05, 0.05, 0.05)


def frame(percent: float) -> Alteration:
    """Add a border of one colour."""

    def alter(pixels: Pixels, random: np.random.Generator) -> Pixels:
        border = max(1, round(min(pixels.shape[:2]) * percent / 100))
        colour = (WHITE, BLACK, BROWN)[random.integers(3)]
        height, width = pixels.shape[:2]
        framed = np.full((height + 2 * border, width + 2 * border, 3), colour, np.uint8)
        framed[border:-border, border:-border] = pixels
        return framed

    return alter


def band(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A line of text on a band over the upper or lower 12 %."""
    height = len(pixels)
    size = max(12, round(0.12 * height))
    top = 0 if random.random() < 0.5 else height - size
    paper, ink = (WHITE, BLACK) if random.random() < 0.5 else (BLACK, WHITE)
    captioned = pixels.copy()
    captioned[top : top + size] = paper
    _write(captioned, "a photograph of mine, 2014", top + round(0.7 * size), size, ink)
    return captioned


def caption_below(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """A line of text on white, added below."""
    height, width = pixels.shape[:2]
    size = max(12, round(0.15 * height))
    captioned = np.full((height + size, width, 3), 255, np.uint8)
    captioned[:height] = pixels
    _write(captioned, "Figure 3: as seen last summer", height + round(0.7 * size), size, BLACK)
    return captioned


def meme(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Large white letters with a black outline, above and below."""
    height, width = pixels.shape[:2]
    captioned = pixels.copy()
    for text, place in (("WHEN YOU SEE IT", 0.14), ("AND THEN IT SEES YOU", 0.95)):
        scale = width / (len(text) * 20)
        at, stroke = (round(0.04 * width), round(place * height)), max(1, round(2.2 * scale))
        for ink, thickness in ((BLACK, 3 * stroke), (WHITE, stroke)):
            cv2.putText(captioned, text, at, FONT, scale, ink, thickness, cv2.LINE_AA)
    return captioned


def _write(pixels: Pixels, text: str, baseline: int, size: int, ink: tuple[int, int, int]) -> None:
    at = (round(0.03 * pixels.shape[1]), baseline)
    cv2.putText(pixels, text, at, FONT, size / 45, ink, max(1, size // 18), cv2.LINE_AA)


def chain(*alterations: Alteration) -> Alteration:
    def alter(pixels: Pixels, random: np.random.Generator) -> Pixels:
        for alteration in alterations:
            pixels = alteration(pixels, random)
        return pixels

    return alter


COPIES = {
    "recompressed, quality 30": Copy(same, 30),
    "half the size": Copy(halve),
    "brightened": Copy(brighten),
    **{f"{percent} % off each side": Copy(even_crop(percent)) for percent in CUT},
    **{f"up to {percent} % off each side": Copy(uneven_crop(percent)) for percent in CUT},
    "mirrored": Copy(mirror),
    "mirrored, up to 10 % off": Copy(chain(mirror, uneven_crop(10))),
    "5 % off, half the size, quality 50": Copy(chain(even_crop(5), halve), 50),
    "up to 10 % off, brightened": Copy(chain(uneven_crop(10), brighten)),
    "caption on a band": Copy(band),
    "caption added below": Copy(caption_below),
    "large letters over it": Copy(meme),
    "frame of 5 %": Copy(frame(5)),
    "frame of 10 %": Copy(frame(10)),
    "squeezed into a square": Copy(squash),
    "5 % off, squeezed": Copy(chain(even_crop(5), squash)),
    "turned by 3 degrees": Copy(turn),
}
