"""matplotlib figures, drawn without pyplot, which keeps figures in memory.

Axes have margins that hold every label: finding them by a layout would take half of the time.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipeline.core import history
from pipeline.core.history import Record
from pipeline.core.percentages import MIN_IMAGES, format_share
from pipeline.core.terminal import printable
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate.confusions import ConfusionMatrix
from pipeline.stages.evaluate.ranking import Curve

RIGHT, WRONG = "#1a7f37", "#cf222e"
DPI = 120
# Inches around axes: of tick labels such as −0.00001 and the label of the axis.
LEFT, RIGHT_MARGIN, BOTTOM, TOP = 0.85, 0.15, 0.55, 0.3
MAX_SIDE = 13.0  # inches, of the confusion matrix
CELL, MIN_SIDE = 0.6, 2.0  # inches, of a class in it, and of all
MAX_NAMES, MAX_COUNTS = 60, 25  # classes with readable names, and with readable counts
MAX_MARKED_EPOCHS = 20
PALETTE = [*(f"C{number}" for number in range(10)), "navy", "gold"]
MAX_LINES = len(PALETTE)  # classes with a colour
OTHERS = "0.75"  # grey, of the other classes
MAX_NAME_LENGTH = 24  # characters; the middle of a longer name is left out


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its bytes depend on the picture alone."""
    path.write_bytes(png(figure))


def png(figure: Figure) -> bytes:
    """A figure as a PNG; its bytes depend on the picture alone."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, metadata={"Software": None})
    return written.getvalue()


def curves(records: Sequence[Record]) -> Figure:
    """Loss and accuracy by epoch, training and validation."""
    figure, both = _row(10, 4, 2)
    epochs = [record.epoch for record in records]
    best = history.best(records).epoch
    losses = [record.losses for record in records]
    accuracies = [record.accuracies for record in records]
    marker = "." if len(epochs) < MAX_MARKED_EPOCHS else None  # a line of one point is invisible
    for axes, name, pairs in zip(both, ("loss", "accuracy"), (losses, accuracies), strict=True):
        training, validation = zip(*pairs, strict=True)
        axes.plot(epochs, training, label="train", marker=marker)
        axes.plot(epochs, validation, label="validation", marker=marker)
        axes.axvline(best, color="grey", linestyle=":", label=f"best: epoch {best:g}")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right" if name == "loss" else "lower right")
    return figure


def confusion(matrix: ConfusionMatrix) -> Figure:
    """Counts, shaded by share of the true class; of many classes without numbers."""
    counts, classes = matrix.counts, matrix.classes
    step = -(-len(classes) // MAX_NAMES)
    ticks, names = range(0, len(classes), step), [shorten(name) for name in classes[::step]]
    figure, axes = _square(min(max(MIN_SIDE, CELL * len(classes)), MAX_SIDE), names)
    share = counts / np.maximum(matrix.images[:, None], 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    note = f" ({matrix.title})" if matrix.title else ""
    axes.set(xlabel=f"predicted{note}", ylabel="true")
    for row, column in np.ndindex(*counts.shape) if len(classes) <= MAX_COUNTS else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    return figure


def by_threshold(
    roc: Mapping[str, Curve], precision_recall: Mapping[str, Curve], title: str = ""
) -> Figure:
    """ROC, and precision by recall: each of at most `MAX_LINES` classes against the rest.

    Args:
        title: Which classes these are, "" if all.
    """
    figure, both = _row(10, 4.6, 2)
    # The areas below are the AUC, of straight lines, and the average precision, of steps.
    charts = (
        (roc, "false positive rate", "true positive rate", "default"),
        (precision_recall, "recall", "precision", "steps-post"),
    )
    for axes, (by_class, x, y, style) in zip(both, charts, strict=True):
        lines = [
            axes.plot(curve.x, curve.y, drawstyle=style, color=colour)[0]
            for curve, colour in zip(by_class.values(), PALETTE, strict=False)
        ]
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        _legend(axes, lines, list(by_class), title)
    return figure


def reliability(before: Bins, after: Bins) -> Figure:
    """Accuracy by the probability of the prediction, before and after temperature scaling."""
    figure, (axes,) = _row(5.8, 5, 1)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated perfectly")
    for name, bins in (("as trained", before), ("calibrated", after)):
        label = f"{name}: off by {format_share(bins.error)} on average"
        if bins.count.sum() < MIN_IMAGES:
            label = name
        (line,) = axes.plot(bins.confidence, bins.accuracy, linewidth=1, label=label)
        area = 10 + 400 * bins.count / bins.count.sum()  # by the number of images
        axes.scatter(bins.confidence, bins.accuracy, s=area, color=line.get_color(), alpha=0.6)
    axes.set(xlabel="probability of the prediction", ylabel="accuracy")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return figure


def embedding(
    points: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> Figure:
    """Images at points (N, 2), the classes with the most in colour; rings are mistakes."""
    figure = Figure(figsize=(7, 6))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    # The classes with the most images, in their order.
    largest = np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable")
    numbers = np.sort(largest[:MAX_LINES])
    colours = np.full(len(classes), OTHERS, dtype=object)
    colours[numbers] = PALETTE[: len(numbers)]
    wrong = labels != predicted
    x, y = points.T
    # One scatter: a thousand classes would take seconds.
    axes.scatter(x, y, s=14, c=colours[labels].tolist(), alpha=0.7)
    axes.scatter(x[wrong], y[wrong], s=60, facecolors="none", edgecolors=WRONG)
    axes.set(xticks=[], yticks=[])
    dots = [
        Line2D([], [], color=colour, marker="o", markersize=4, linestyle="", alpha=0.7)
        for colour in colours[numbers]
    ]
    title = f"{len(dots)} of {len(classes)} classes" if len(dots) < len(classes) else ""
    _legend(axes, dots, [classes[number] for number in numbers], title)
    return figure


def _row(width: float, height: float, count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure of these inches with axes side by side."""
    figure = Figure(figsize=(width, height))
    cell = width / count
    sides = (cell - LEFT - RIGHT_MARGIN) / width, (height - BOTTOM - TOP) / height
    axes = [
        figure.add_axes(((number * cell + LEFT) / width, BOTTOM / height, *sides))
        for number in range(count)
    ]
    return figure, axes


def _square(side: float, names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with square axes and margins for names: at the left, and slanting at the bottom."""
    longest = max(map(_width, names))
    left = longest + 0.5
    bottom = longest * np.sin(np.pi / 4) + 0.7
    width, height = left + side + RIGHT_MARGIN, bottom + side + RIGHT_MARGIN
    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes((left / width, bottom / height, side / width, side / height))


def _width(text: str) -> float:
    """The width, in inches, of a tick label."""
    figure = Figure(dpi=DPI)
    canvas: Any = FigureCanvasAgg(figure)
    label = figure.text(0, 0, text, parse_math=False)
    return label.get_window_extent(canvas.get_renderer()).width / DPI


def _legend(axes: Axes, artists: Sequence[Artist], names: Sequence[str], title: str) -> None:
    """A legend of classes; `title` says which, "" if all.

    Names may start with _, which matplotlib leaves out, or contain $, which starts a formula.
    """
    labels = ["-"] * len(names)
    legend = axes.legend(artists, labels, title=title or None, fontsize=8, title_fontsize=8)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shorten(name))


def shorten(name: str) -> str:
    """A class name on one line, of at most `MAX_NAME_LENGTH` characters."""
    name = printable(name)
    half = MAX_NAME_LENGTH // 2
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[:half]}…{name[1 - half :]}"
