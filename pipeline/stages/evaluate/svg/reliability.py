"""Accuracy by the probability of the prediction."""

from collections.abc import Iterator

from markupsafe import Markup

from pipeline.core.percentages import MIN_IMAGES, format_right, format_share
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate.svg.chart import Chart, Key
from pipeline.stages.evaluate.svg.elements import line, mark
from pipeline.stages.evaluate.svg.plot import Plot, shares

LARGEST, SMALLEST = 9.0, 3.0  # pixels: radius of a bin of all images, and of one


def draw_reliability(as_trained: Bins, calibrated: Bins) -> Chart:
    """Bins before and after temperature scaling; the area of a circle follows its images."""
    plot = Plot(shares("probability of the prediction"), shares("accuracy"))
    diagonal = line(*plot.at(0, 0), *plot.at(1, 1), "reference")
    parts, keys, rows = [plot.frame(), diagonal], [], []
    for colour, (name, bins) in enumerate((("as trained", as_trained), ("calibrated", calibrated))):
        parts.append(plot.path(bins.confidence.tolist(), bins.accuracy.tolist(), f"thin c{colour}"))
        keys.append(Key(colour, name, _describe_error(bins)))
        rows += [
            [name, format_share(probability), format_right(right, count), str(count)]
            for probability, right, count in _bins(bins)
        ]
    for colour, (name, bins) in enumerate((("as trained", as_trained), ("calibrated", calibrated))):
        parts += _marks(plot, name, bins, colour)
    return Chart(
        "Accuracy by probability",
        "Accuracy of predictions by their probability, before and after calibration; on the "
        "diagonal, both are equal.",
        plot.size.svg(*parts),
        keys,
        ("probabilities", "mean probability", "right", "images"),
        rows,
    )


def _bins(bins: Bins) -> Iterator[tuple[float, int, int]]:
    """Mean probability, right predictions and images of each bin."""
    columns = (bins.confidence.tolist(), bins.accuracy.tolist(), bins.count.tolist())
    for probability, accuracy, count in zip(*columns, strict=True):
        yield probability, round(accuracy * count), int(count)


def _marks(plot: Plot, name: str, bins: Bins, colour: int) -> Iterator[Markup]:
    total = int(bins.count.sum())
    for probability, right, count in _bins(bins):
        radius = SMALLEST + (LARGEST - SMALLEST) * (count / total) ** 0.5
        yield mark(
            plot.circle(probability, right / count, radius, f"bubble c{colour}"),
            f"{name}, {format_share(probability)} probable: {right} of {count} right",
        )


def _describe_error(bins: Bins) -> str:
    """Of few images it would be chance."""
    if bins.count.sum() < MIN_IMAGES:
        return ""
    return f"off by {format_share(bins.error)} on average"
