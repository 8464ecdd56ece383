"""A picture of test images with their predictions, in a grid."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.Image import Resampling

from pipeline.core.percentages import format_share
from pipeline.images.pixels import Pixels
from pipeline.stages.evaluate.charts import DPI, MAX_NAME_LENGTH, RIGHT, WRONG, shorten
from pipeline.stages.evaluate.photographs import MAX_SIDE, PicturedSample

COLUMNS = 5
GAP = 12  # pixels between images
FONT_SIZE = 10  # points
TITLE_HEIGHT = 64  # pixels, of three lines
PIXELATED = 3  # times that an image is enlarged, from which on its pixels stay squares
COMPRESSION = 3  # of 9; 6, the default, takes twice as long for 3 % less


@dataclass(frozen=True)
class Cell:
    """An image at its place, in pixels from the upper left corner."""

    sample: PicturedSample
    image: Image.Image
    left: int
    top: int

    @property
    def middle(self) -> float:
        return self.left + self.image.width / 2


def draw_grid(samples: Sequence[PicturedSample]) -> bytes:
    """A PNG of images titled "predicted (true)": green when right, red when wrong."""
    cells, height = _lay_out(samples)
    width = COLUMNS * (MAX_SIDE + GAP) + GAP
    picture = _draw_titles(cells, width, max(height, TITLE_HEIGHT))
    for cell in cells:
        picture.paste(cell.image, (cell.left, cell.top))
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=COMPRESSION)
    return written.getvalue()


def _lay_out(samples: Sequence[PicturedSample]) -> tuple[list[Cell], int]:
    """The images in rows, each as high as its highest image, and the height of all."""
    cells: list[Cell] = []
    top = GAP
    for start in range(0, len(samples), COLUMNS):
        row = samples[start : start + COLUMNS]
        images = [_enlarge(sample.pixels) for sample in row]
        top += TITLE_HEIGHT
        for column, (sample, image) in enumerate(zip(row, images, strict=True)):
            left = GAP + column * (MAX_SIDE + GAP) + (MAX_SIDE - image.width) // 2
            cells.append(Cell(sample, image, left, top))
        top += max(image.height for image in images) + GAP
    return cells, top


def _enlarge(pixels: Pixels) -> Image.Image:
    """The image with a longer side of `MAX_SIDE`."""
    image = Image.fromarray(pixels)
    factor = MAX_SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Resampling.NEAREST if factor >= PIXELATED else Resampling.BICUBIC)


def _draw_titles(cells: Sequence[Cell], width: int, height: int) -> Image.Image:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)
    if not cells:
        figure.text(0.5, 0.5, "no images", ha="center", va="center")
    for cell in cells:
        is_right = cell.sample.predicted == cell.sample.true
        title = figure.text(
            cell.middle / width,
            1 - (cell.top - GAP / 2) / height,
            describe_sample(cell.sample),
            ha="center",
            va="bottom",
            color=RIGHT if is_right else WRONG,
            fontsize=FONT_SIZE,
            parse_math=False,
        )
        extent = title.get_window_extent(canvas.get_renderer()).width
        title.set_fontsize(FONT_SIZE * min(1, MAX_SIDE / extent))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())


def describe_sample(sample: PicturedSample) -> str:
    """Such as "car (bike)", and the probability on the next line."""
    predicted, true = shorten(sample.predicted), shorten(sample.true)
    line_break = "\n" if len(predicted + true) > MAX_NAME_LENGTH else " "
    return f"{predicted}{line_break}({true})\n{format_share(sample.probability, 0)}"
