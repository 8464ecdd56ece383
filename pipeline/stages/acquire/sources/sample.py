"""Draw cars and bicycles with OpenCV, and defects for every reason and warning of the filter."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.datasets.dataset_toml import SampleDataset
from pipeline.stages.acquire.raw_image import RawImage

Canvas = npt.NDArray[np.uint8]  # (height, width, 3), RGB
Colour = tuple[int, ...]
Point = tuple[float, float]

SUBPIXEL = 4  # binary digits of OpenCV's fixed-point coordinates
DARK: Colour = (35, 35, 40)


def draw_images(dataset: SampleDataset) -> Iterator[RawImage]:
    """Yield the pictures of each class, then the defects; reproducible to the byte."""
    for label, draw in (("bicycle", _bicycle), ("car", _car)):
        for number in range(dataset.images_per_class):
            random = np.random.default_rng([dataset.seed, len(label), number])
            data = _jpeg(_picture(random, draw), quality=int(random.integers(80, 96)))
            name = f"{label}/{label}_{number:04d}.jpg"
            yield RawImage(name, label, data, licence=dataset.licence)
    yield from _defects(dataset)


def _defects(dataset: SampleDataset) -> Iterator[RawImage]:
    """One file for each reason to reject and each warning; docs/filter_and_split.md lists them."""
    random = np.random.default_rng([dataset.seed, 0])
    car, bicycle = _picture(random, _car), _picture(random, _bicycle)
    whole = _jpeg(car)
    hole = len(whole) // 2
    defects = {
        "car/empty.jpg": b"",
        "car/text.jpg": b"<html><body>404 Not Found</body></html>",
        "car/truncated.jpg": whole[: len(whole) * 2 // 3],
        "car/hole.jpg": whole[:hole] + bytes(400) + whole[hole + 400 :],
        "car/vast.png": _png_header(60_000, 60_000),
        "bicycle/tiny.png": _png(bicycle[:20, :20]),
        "bicycle/blank.png": _png(np.full((120, 160, 3), 200, np.uint8)),
        "bicycle/copy.jpg": (copy := _jpeg(bicycle)),
        "bicycle/copy (1).jpg": copy,
        "bicycle/both.jpg": (both := _jpeg(_picture(random, _bicycle))),
        "car/both.jpg": both,
        "car/whole.jpg": whole,
        "car/whole (small).jpg": _jpeg(_smaller(car)),
        "car/icon.ico": _encode(Image.fromarray(_picture(random, _car)), "ICO"),
        "car/png_inside.jpg": _png(_picture(random, _car)),
        "car/rotated.jpg": _rotated(_picture(random, _car)),
        "bicycle/transparent.png": _transparent(_picture(random, _bicycle)),
        "bicycle/two_frames.gif": _two_frames(_picture(random, _bicycle)),
        "car/cmyk.jpg": _cmyk(_picture(random, _car)),
        "car/deep.png": _png(_picture(random, _car).astype(np.uint16) * 257),
    }
    for name, data in defects.items():
        yield RawImage(name, name.split("/")[0], data, licence=dataset.licence)


# Pictures: coordinates in units of the width of a vehicle.


class _Pen:
    """Draws with x to the right, y up, (0, 0) on the ground, and a vehicle about 1 wide."""

    def __init__(self, canvas: Canvas, random: np.random.Generator) -> None:
        height, width = canvas.shape[:2]
        self.canvas = canvas
        self.scale = width * random.uniform(0.55, 0.85)
        self.angle = random.normal(0, 0.04)  # radians
        self.flip = random.choice([-1, 1])
        self.origin = (
            width * random.uniform(0.44, 0.56),
            height * random.uniform(0.68, 0.85),
        )

    def at(self, point: Point) -> tuple[int, int]:
        x, y = point[0] * self.flip, point[1]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        column = self.origin[0] + self.scale * (x * cos - y * sin)
        row = self.origin[1] - self.scale * (x * sin + y * cos)
        return round(column * 2**SUBPIXEL), round(row * 2**SUBPIXEL)

    def thickness(self, width: float) -> int:
        return max(1, int(width * self.scale + 0.5))

    def polygon(self, points: list[Point], colour: Colour) -> None:
        corners = np.array([self.at(point) for point in points], np.int32)
        cv2.fillPoly(self.canvas, [corners], colour, cv2.LINE_AA, SUBPIXEL)

    def line(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        cv2.line(
            self.canvas,
            self.at(start),
            self.at(end),
            colour,
            self.thickness(width),
            cv2.LINE_AA,
            SUBPIXEL,
        )

    def circle(self, centre: Point, radius: float, colour: Colour, width: float = 0) -> None:
        cv2.circle(
            self.canvas,
            self.at(centre),
            round(radius * self.scale * 2**SUBPIXEL),
            colour,
            self.thickness(width) if width else -1,
            cv2.LINE_AA,
            SUBPIXEL,
        )


Draw = Callable[[_Pen, np.random.Generator], None]


def _car(pen: _Pen, random: np.random.Generator) -> None:
    paint, glass = _colour(random, 60, 230), _colour(random, 150, 220)
    roof, bonnet = random.uniform(0.30, 0.42), random.uniform(0.17, 0.22)
    wheel = random.uniform(0.075, 0.095)
    front, back = random.uniform(-0.22, -0.12), random.uniform(0.20, 0.34)
    cabin: list[Point] = [(front - 0.12, bonnet), (front, roof), (back, roof), (0.40, bonnet)]
    pen.polygon(
        [(-0.5, 0.06), (-0.5, bonnet - 0.03), (-0.42, bonnet), (0.47, bonnet), (0.5, 0.06)], paint
    )
    pen.polygon(cabin, paint)
    middle = (front + back) / 2
    low, high = bonnet + 0.01, roof - 0.025
    pen.polygon(
        [(front - 0.07, low), (front + 0.01, high), (middle - 0.015, high), (middle - 0.015, low)],
        glass,
    )
    pen.polygon(
        [(middle + 0.015, low), (middle + 0.015, high), (back - 0.01, high), (0.34, low)], glass
    )
    pen.circle((-0.47, 0.14), 0.022, (250, 240, 190))
    for x in (-0.29, 0.29):
        pen.circle((x, wheel), wheel, DARK)
        pen.circle((x, wheel), wheel * 0.5, (190, 190, 195))


def _bicycle(pen: _Pen, random: np.random.Generator) -> None:
    paint, tyre = _colour(random, 40, 220), random.uniform(0.014, 0.022)
    wheel, width = random.uniform(0.20, 0.24), random.uniform(0.016, 0.024)
    rear, front, crank = (-0.28, wheel), (0.28, wheel), (-0.04, wheel * 0.95)
    saddle, bars = (-0.11, random.uniform(0.42, 0.50)), (0.20, random.uniform(0.46, 0.54))
    for hub in (rear, front):
        pen.circle(hub, wheel, DARK, tyre)
        for turn in np.linspace(0, np.pi, 7)[:-1]:
            reach = wheel * np.array([np.cos(turn), np.sin(turn)])
            pen.line(
                (hub[0] - reach[0], hub[1] - reach[1]),
                (hub[0] + reach[0], hub[1] + reach[1]),
                (150, 150, 150),
                0.003,
            )
    neck = (bars[0] + 0.01, bars[1] - 0.05)
    for start, end in (
        (rear, crank),
        (rear, saddle),
        (crank, saddle),
        (crank, neck),
        (saddle, neck),
        (neck, front),
        (bars, neck),
    ):
        pen.line(start, end, paint, width)
    pen.line((saddle[0] - 0.06, saddle[1] + 0.02), (saddle[0] + 0.05, saddle[1] + 0.02), DARK, 0.03)
    pen.line((bars[0] - 0.07, bars[1] + 0.02), bars, DARK, 0.02)
    pen.circle(crank, 0.045, DARK, 0.012)


def _picture(random: np.random.Generator, draw: Draw) -> Canvas:
    """A scene with one vehicle, 160 to 480 pixels wide."""
    width = int(random.integers(160, 481))
    height = round(width * random.uniform(0.66, 0.85))
    canvas = _background(random, width, height)
    pen = _Pen(canvas, random)
    _shadow(pen)
    draw(pen, random)
    blurred = cv2.GaussianBlur(canvas, (0, 0), random.uniform(0.4, 1.2))
    noisy = blurred + random.normal(0, random.uniform(1, 6), canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _background(random: np.random.Generator, width: int, height: int) -> Canvas:
    """Sky over ground, with a few houses between them."""
    top, bottom = _colour(random, 120, 255), _colour(random, 150, 255)
    fade = np.linspace(0, 1, height)[:, None, None]
    sky = np.array(top) * (1 - fade) + np.array(bottom) * fade
    canvas = np.repeat(sky, width, axis=1).astype(np.uint8)
    horizon = round(height * random.uniform(0.5, 0.7))
    for _ in range(int(random.integers(0, 6))):
        left, wide = int(random.integers(0, width)), int(width * random.uniform(0.05, 0.25))
        roof = round(horizon * random.uniform(0.3, 0.9))
        colour = _colour(random, 90, 200)
        cv2.rectangle(canvas, (left, roof), (left + wide, horizon), colour, -1)
    canvas[horizon:] = _colour(random, 70, 170)
    return canvas


def _shadow(pen: _Pen) -> None:
    left, right = pen.at((-0.5, 0.0)), pen.at((0.5, 0.0))
    centre = ((left[0] + right[0]) // 2, (left[1] + right[1]) // 2)
    axes = (round(pen.scale * 0.52 * 2**SUBPIXEL), round(pen.scale * 0.03 * 2**SUBPIXEL))
    cv2.ellipse(pen.canvas, centre, axes, 0, 0, 360, (60, 60, 60), -1, cv2.LINE_AA, SUBPIXEL)


def _colour(random: np.random.Generator, low: int, high: int) -> Colour:
    return tuple(int(value) for value in random.integers(low, high, 3))


# Encodings.


def _jpeg(picture: Canvas, quality: int = 90) -> bytes:
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _png(picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    _, data = cv2.imencode(".png", picture[:, :, ::-1])
    return data.tobytes()


def _png_header(width: int, height: int) -> bytes:
    """A PNG with a size in its header and no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _rotated(picture: Canvas) -> bytes:
    """As a phone held upright stores it: rotated, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees clockwise to display
    return _encode(Image.fromarray(np.rot90(picture)), "JPEG", exif=exif)


def _smaller(picture: Canvas) -> Canvas:
    """Scaled down: a near-duplicate."""
    height, width = picture.shape[:2]
    size = (width * 3 // 4, height * 3 // 4)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _transparent(picture: Canvas) -> bytes:
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:, : picture.shape[1] // 10] = 0
    return _encode(Image.fromarray(np.dstack([picture, alpha])), "PNG")


def _two_frames(picture: Canvas) -> bytes:
    first, second = Image.fromarray(picture), Image.fromarray(picture[:, ::-1])
    return _encode(first, "GIF", save_all=True, append_images=[second])


def _cmyk(picture: Canvas) -> bytes:
    return _encode(Image.fromarray(picture).convert("CMYK"), "JPEG")


def _encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
