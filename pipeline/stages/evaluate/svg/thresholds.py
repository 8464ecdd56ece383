"""ROC, and precision by recall, of each class against the rest."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from markupsafe import Markup

from pipeline.core.percentages import format_share
from pipeline.stages.evaluate.ranking import Curve
from pipeline.stages.evaluate.svg.chart import Chart, Key
from pipeline.stages.evaluate.svg.elements import line, mark, shorten
from pipeline.stages.evaluate.svg.plot import Plot, shares

MAX_MARKS = 200  # of all classes


def draw_roc(curves: Mapping[str, Curve], title: str) -> Chart:
    """Curves of at most `COLOURS` classes.

    Args:
        title: Which classes these are, "" if all.
    """
    plot = Plot(shares("false alarms, of the other classes"), shares("found, of the class"))
    chance = line(*plot.at(0, 0), *plot.at(1, 1), "reference")

    def describe(name: str, x: float, y: float) -> str:
        return f"{name}: {format_share(y)} found, {format_share(x)} false alarms"

    return _draw(
        "ROC",
        "Images of each class that are found, by false alarms",
        plot,
        chance,
        curves,
        title,
        describe,
    )


def draw_precision_recall(curves: Mapping[str, Curve], title: str) -> Chart:
    """Like `draw_roc`; between two points precision is that of the next recall."""
    plot = Plot(shares("recall"), shares("precision"))
    steps = {name: _stairs(curve) for name, curve in curves.items()}

    def describe(name: str, x: float, y: float) -> str:
        return f"{name}: precision {format_share(y)} at recall {format_share(x)}"

    return _draw(
        "Precision by recall",
        "Precision of each class by its recall",
        plot,
        Markup(""),
        steps,
        title,
        describe,
    )


def _draw(
    heading: str,
    summary: str,
    plot: Plot,
    reference: Markup,
    curves: Mapping[str, Curve],
    title: str,
    describe: Callable[[str, float, float], str],
) -> Chart:
    parts = [plot.frame(), reference]
    for colour, curve in enumerate(curves.values()):
        parts.append(plot.path(curve.x.tolist(), curve.y.tolist(), f"line c{colour}"))
    for colour, (name, curve) in enumerate(curves.items()):
        of_each = max(2, MAX_MARKS // len(curves))
        for x, y in _points(curve, of_each):
            dot = plot.circle(x, y, 3.5, f"target c{colour}")
            parts.append(mark(dot, describe(shorten(name), x, y)))
    keys = [Key(colour, name) for colour, name in enumerate(curves)]
    note = f", of the {title}" if title else ""
    return Chart(heading, f"{summary}{note}.", plot.size.svg(*parts), keys)


def _points(curve: Curve, most: int) -> Iterator[tuple[float, float]]:
    """Some points of a curve, its ends among them."""
    count = len(curve.x)
    indices = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    yield from zip(curve.x[indices].tolist(), curve.y[indices].tolist(), strict=True)


def _stairs(curve: Curve) -> Curve:
    """With a corner wherever precision jumps: straight lines would promise more (as matplotlib's
    steps-post)."""
    x, y = np.repeat(curve.x, 2)[1:], np.repeat(curve.y, 2)[:-1]
    return Curve(x, y)
