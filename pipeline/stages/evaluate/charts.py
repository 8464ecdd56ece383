"""matplotlib figures, drawn without pyplot, which keeps figures in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.images.decoding import Pixels
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate.metrics import Curve

RIGHT, WRONG = "#1a7f37", "#cf222e"
COLUMNS = 5  # of the grid of samples
DPI = 120
MAX_INCHES = 16.0  # side of the confusion matrix
MAX_NAMES, MAX_COUNTS = 60, 25  # classes with readable names, and with readable counts
MAX_MARKED_EPOCHS = 20
MAX_LINES = 12  # classes drawn as curves


@dataclass(frozen=True)
class PicturedSample:
    """A test image and its prediction."""

    pixels: Pixels
    predicted: str
    true: str
    probability: float
    """Of the predicted class."""


def save(figure: Figure, path: Path) -> None:
    """Write a PNG; its bytes depend on the picture alone."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and accuracy by epoch, training and validation."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    marker = "." if len(epochs) < MAX_MARKED_EPOCHS else None  # a line of one point is invisible
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[f"train_{name}"] for row in history], label="train", marker=marker)
        values = [row[f"val_{name}"] for row in history]
        axes.plot(epochs, values, label="validation", marker=marker)
        axes.axvline(best, color="grey", linestyle=":", label=f"best: epoch {best:g}")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Counts, shaded by share of the true class; of many classes without numbers."""
    side = min(2.5 + 0.6 * len(classes), MAX_INCHES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    step = -(-len(classes) // MAX_NAMES)
    ticks, names = range(0, len(classes), step), classes[::step]
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.ndindex(*matrix.shape) if len(classes) <= MAX_COUNTS else ():
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    return figure


def by_threshold(roc: Mapping[str, Curve], precision_recall: Mapping[str, Curve]) -> Figure:
    """ROC, and precision by recall: each class against the rest."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    charts = (
        (roc, "false positive rate", "true positive rate"),
        (precision_recall, "recall", "precision"),
    )
    for axes, (by_class, x, y) in zip(figure.subplots(1, 2), charts, strict=True):
        for name, curve in list(by_class.items())[:MAX_LINES]:
            axes.plot(curve.x, curve.y, drawstyle="steps-post", label=name)
        axes.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        legend = axes.legend(fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def reliability(before: Bins, after: Bins) -> Figure:
    """Accuracy by the probability of the prediction, before and after temperature scaling."""
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="calibrated perfectly")
    for name, bins in (("as trained", before), ("calibrated", after)):
        label = f"{name}: off by {bins.error:.1%} on average"
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
    """Images at points (N, 2) in the colour of their class; rings are mistakes."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    wrong = labels != predicted
    for number, name in enumerate(classes):
        x, y = points[labels == number].T
        label = name if number < MAX_LINES else None
        axes.scatter(x, y, s=14, color=f"C{number % 10}", alpha=0.7, label=label)
    x, y = points[wrong].T
    axes.scatter(x, y, s=60, facecolors="none", edgecolors=WRONG)
    axes.set(xticks=[], yticks=[])
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    return figure


def samples(images: Sequence[PicturedSample]) -> Figure:
    """A grid of images titled "predicted (true)": green when right, red when wrong."""
    rows = max(1, -(-len(images) // COLUMNS))
    figure = Figure(figsize=(2.2 * COLUMNS, 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    if not images:
        figure.text(0.5, 0.5, "no images", ha="center")
    for axes, sample in zip(grid, images, strict=False):
        colour = RIGHT if sample.predicted == sample.true else WRONG
        title = f"{sample.predicted} ({sample.true})\n{sample.probability:.0%}"
        axes.imshow(sample.pixels)
        axes.set_title(title, color=colour, fontsize=10, parse_math=False)
    return figure
