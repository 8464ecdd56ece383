"""Loss and accuracy by epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from markupsafe import Markup

from pipeline.core import history
from pipeline.core.history import Record
from pipeline.core.percentages import format_share
from pipeline.stages.evaluate.svg.chart import Chart, Key
from pipeline.stages.evaluate.svg.elements import READOUT, line, mark
from pipeline.stages.evaluate.svg.plot import Axis, Plot, axis_of, shares

MAX_MARKS = 100  # of many validations, every second or third is under the pointer
MAX_DOTS = 20  # validations whose points are drawn, beside the line


@dataclass(frozen=True)
class _Figure:
    """What a chart shows of each validation."""

    name: str
    values: Callable[[Record], tuple[float, float]]
    """Of training and of validation."""
    write: Callable[[float], str]
    """A value as text."""


LOSS = _Figure("loss", lambda record: record.losses, lambda loss: f"{loss:.4f}")
ACCURACY = _Figure("accuracy", lambda record: record.accuracies, format_share)


def draw_loss(records: Sequence[Record]) -> Chart:
    """Log loss, in nats, of the training and the validation set."""
    losses = chain.from_iterable(record.losses for record in records)
    return _draw(records, LOSS, axis_of("loss (nats)", [0.0, *losses]))


def draw_accuracy(records: Sequence[Record]) -> Chart:
    """The share of right predictions in the training and the validation set."""
    return _draw(records, ACCURACY, shares("accuracy"))


def _draw(records: Sequence[Record], figure: _Figure, y: Axis) -> Chart:
    epochs = [record.epoch for record in records]
    best = history.best(records)
    plot = Plot(axis_of("epoch", [0.0, *epochs], only_whole=True), y)
    parts = [plot.frame(), _best(plot, best.epoch)]
    for colour, values in enumerate(zip(*map(figure.values, records), strict=True)):
        parts.append(plot.path(epochs, values, f"line c{colour}"))
        if len(records) <= MAX_DOTS:
            dots = zip(epochs, values, strict=True)
            parts += [plot.circle(*point, 2.5, f"dot c{colour}") for point in dots]
    parts += _marks(plot, records, figure)
    training, validation = map(figure.write, figure.values(best))
    title = f"{figure.name.capitalize()} by epoch"
    summary = (
        f"{figure.name.capitalize()} over {epochs[-1]:g} epochs; at the best, epoch "
        f"{best.epoch:g}, {training} in training and {validation} in validation."
    )
    keys = [Key(0, "training"), Key(1, "validation", f"best at epoch {best.epoch:g}, dotted")]
    return Chart(title, summary, plot.size.svg(*parts), keys)


def _best(plot: Plot, epoch: float) -> Markup:
    """A vertical line at the epoch whose weights the model has."""
    x, _ = plot.at(epoch, plot.y.low)
    return line(x, READOUT, x, plot.bottom, "reference")


def _marks(plot: Plot, records: Sequence[Record], figure: _Figure) -> list[Markup]:
    """A band for each validation, half-way to its neighbours."""
    marked = records[:: -(-len(records) // MAX_MARKS)]
    epochs = [record.epoch for record in marked]
    middles = [(a + b) / 2 for a, b in pairwise(epochs)]
    edges = [plot.x.low, *middles, plot.x.high]
    return [
        mark(
            plot.band(left, right)
            + plot.circle(epoch, validation, 3.5, "pointed c1")
            + plot.circle(epoch, training, 3.5, "pointed c0"),
            f"epoch {epoch:g}: training {figure.write(training)}, "
            f"validation {figure.write(validation)}",
        )
        for epoch, (training, validation), (left, right) in zip(
            epochs, map(figure.values, marked), pairwise(edges), strict=True
        )
    ]
