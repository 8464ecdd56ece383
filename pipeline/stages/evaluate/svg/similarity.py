"""The map of the test images."""

from collections.abc import Sequence

import numpy as np

from pipeline.network.calibration import Floats, Labels
from pipeline.stages.evaluate.svg.chart import COLOURS, Chart, Key
from pipeline.stages.evaluate.svg.elements import READOUT, Size, element, mark, shorten

SIZE = Size(380.0, 340.0)
INSET = 10.0


def draw_similarity(
    points: Floats, labels: Labels, predicted: Labels, classes: Sequence[str]
) -> Chart:
    """Images at points (N, 2), the classes with the most in colour; rings are mistakes."""
    counts = np.bincount(labels, minlength=len(classes))
    largest = np.argsort(-counts, kind="stable")[:COLOURS]
    coloured = np.sort(largest[counts[largest] > 0]).tolist()
    colour_of = {number: colour for colour, number in enumerate(coloured)}
    pixels = _to_pixels(points)
    parts = []
    for (x, y), label, top in zip(pixels, labels.tolist(), predicted.tolist(), strict=True):
        class_ = f"c{colour_of[label]}" if label in colour_of else "others"
        readout = shorten(classes[label])
        if label != top:
            class_ += " mistake"
            readout += f", taken for {shorten(classes[top])}"
        parts.append(mark(element("circle", cx=x, cy=y, r=3.5, class_=f"point {class_}"), readout))
    keys = [Key(colour, classes[number]) for number, colour in colour_of.items()]
    title = "Map of the test images"
    if len(coloured) < np.count_nonzero(counts):
        title += f" ({len(coloured)} of {len(classes)} classes in colour)"
    return Chart(
        title,
        "Test images, similar ones close to each other, in the colours of their classes.",
        SIZE.svg(*parts),
        keys,
    )


def _to_pixels(points: Floats) -> list[tuple[float, float]]:
    """In the whole drawing; both directions have their own scale."""
    low, high = points.min(axis=0), points.max(axis=0)
    shares = np.where(high > low, (points - low) / np.where(high > low, high - low, 1.0), 0.5)
    room = np.array([SIZE.width - 2 * INSET, SIZE.height - READOUT - 2 * INSET])
    x, y = (shares * room + np.array([INSET, READOUT + INSET])).T
    return list(zip(x.tolist(), y.tolist(), strict=True))
