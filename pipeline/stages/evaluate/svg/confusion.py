"""The confusion matrix."""

import numpy as np
from markupsafe import Markup

from pipeline.core.percentages import MIN_IMAGES, format_share
from pipeline.stages.evaluate.confusions import ConfusionMatrix
from pipeline.stages.evaluate.svg.chart import Chart
from pipeline.stages.evaluate.svg.elements import (
    READOUT,
    Size,
    element,
    mark,
    shorten,
    text,
    width_of,
)

WIDTH = 380.0
SMALLEST, LARGEST = 18.0, 76.0  # pixels: the side of a cell
MIN_COUNTED = 22.0  # pixels: the side of a cell with room for its number
FAINTEST = 0.12  # opacity of a single mistake, so that it is seen
DARK = 0.75  # opacity from which on numbers are light
HEADING = 18.0  # the height of "predicted", and the width of "true", which is upright


def draw_confusion(matrix: ConfusionMatrix) -> Chart:
    """A row per true class; a cell is as dark as its share of the row's class, mistakes are red."""
    names = [shorten(name) for name in matrix.classes]
    longest = max(map(width_of, names))
    margin = HEADING + longest + 6
    count = len(names)
    slant = longest * 0.72  # of names that slant by 45 degrees
    side = float(min(LARGEST, max(SMALLEST, (WIDTH - margin - slant) / count)))
    top = READOUT + HEADING + slant + 6
    width = margin + side * count + slant
    size = Size(max(WIDTH, width), top + side * count + 2)
    parts = [
        _turned("true", 11, top + side * count / 2, -90, "label"),
        text("predicted", margin, READOUT + 9, "label"),
    ]
    for number, name in enumerate(names):
        x, y = margin + side * (number + 0.5), top + side * (number + 0.5)
        parts.append(text(name, margin - 6, y + 4, "name", "end"))
        parts.append(_turned(name, x, top - 5, -45, "name"))
    ground = {"x": margin, "y": top, "width": side * count, "height": side * count}
    parts.append(element("rect", **ground, class_="ground"))
    for row, column in np.argwhere((matrix.counts > 0) | np.eye(count, dtype=bool)).tolist():
        images, of_class = int(matrix.counts[row, column]), int(matrix.images[row])
        share = images / max(of_class, 1)
        cell = _cell(margin + side * column, top + side * row, side, images, share, row == column)
        percentage = f" ({format_share(share)})" if of_class >= MIN_IMAGES else ""
        readout = f"{names[row]} as {names[column]}: {images} of {of_class}{percentage}"
        parts.append(mark(cell, readout))
    note = f" ({matrix.title})" if matrix.title else ""
    return Chart(
        f"Confusion matrix{note}",
        f"Test images by true class (rows) and predicted class (columns){note}.",
        size.svg(*parts),
        is_large=width > WIDTH + 0.5,
    )


def _turned(content: str, x: float, y: float, degrees: int, class_: str) -> Markup:
    transform = f"translate({x:.1f} {y:.1f}) rotate({degrees})"
    return element("g", text(content, 0, 0, class_), transform=transform)


def _cell(x: float, y: float, side: float, images: int, share: float, is_right: bool) -> Markup:
    opacity = max(FAINTEST, share) if images else 0.0
    area = element(
        "rect",
        x=x,
        y=y,
        width=side - 1,
        height=side - 1,
        class_="right" if is_right else "wrong",
        fill_opacity=f"{opacity:.2f}",
    )
    if side < MIN_COUNTED:
        return area
    class_ = "count light" if opacity > DARK else "count"
    return area + text(str(images), x + side / 2, y + side / 2 + 4, class_, "middle")
