"""Pictures from facts, as the drawing process makes them.

This module imports nothing that takes long: the stage imports it before it starts the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.core.history import Record
    from pipeline.network.calibration import Bins, Floats, Labels
    from pipeline.stages.evaluate.confusions import ConfusionMatrix
    from pipeline.stages.evaluate.photographs import PicturedSample
    from pipeline.stages.evaluate.ranking import Curve

MAX_CURVES = 12  # classes in a picture: as many as charts.PALETTE has colours


@dataclass(frozen=True)
class ChartFacts:
    """What the charts of a test result show."""

    classes: Sequence[str]
    confusion: ConfusionMatrix
    roc: Mapping[str, Curve]
    """By class, as `precision_recall`."""
    precision_recall: Mapping[str, Curve]
    curves_title: str
    """Which classes these are, "" if all."""
    as_trained: Bins
    """Before calibration."""
    calibrated: Bins
    embedding: Floats
    """(N, F) Inputs of the network's last layer for the first test images."""
    labels: Labels
    """(N,) Of the same images, as `predicted`."""
    predicted: Labels


@dataclass(frozen=True)
class DrawnCharts:
    """The charts of a test result."""

    pngs: Mapping[str, bytes]
    """By name."""
    points: Floats
    """(N, 2) The test images on the map."""


def draw_curves(records: Sequence[Record]) -> bytes:
    """A PNG of loss and accuracy by epoch."""
    from pipeline.stages.evaluate import charts

    return charts.png(charts.curves(records))


def draw_charts(facts: ChartFacts) -> DrawnCharts:
    """All charts of a test result."""
    from pipeline.stages.evaluate import charts
    from pipeline.stages.evaluate.fonts import fonts_for
    from pipeline.stages.evaluate.plane_map import map_to_plane

    points = map_to_plane(facts.embedding)
    with fonts_for(facts.classes):
        figures = {
            "confusion": charts.confusion(facts.confusion),
            "thresholds": charts.by_threshold(
                facts.roc, facts.precision_recall, facts.curves_title
            ),
            "reliability": charts.reliability(facts.as_trained, facts.calibrated),
            "embedding": charts.embedding(points, facts.labels, facts.predicted, facts.classes),
        }
        pngs = {name: charts.png(figure) for name, figure in figures.items()}
    return DrawnCharts(pngs, points)


def draw_grid(samples: Sequence[PicturedSample], classes: Sequence[str]) -> bytes:
    """A PNG of test images with their predictions."""
    from pipeline.stages.evaluate import photograph_grid
    from pipeline.stages.evaluate.fonts import fonts_for

    with fonts_for(classes):
        return photograph_grid.draw_grid(samples)
