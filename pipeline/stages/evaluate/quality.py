"""How good a model is, as the report writes it: of few images counts, not percentages."""

from dataclasses import dataclass

from pipeline.core.percentages import MIN_IMAGES, format_interval, format_right, format_share
from pipeline.stages.evaluate.class_rows import macro
from pipeline.stages.evaluate.intervals import Groups, Interval
from pipeline.stages.evaluate.metrics import Figures, ResultFigures
from pipeline.stages.evaluate.sentences import describe_calibration, describe_interval


@dataclass(frozen=True)
class Quality:
    """Figures of the whole test set, and sentences on them."""

    n: int
    """Test images."""
    correct: int
    """Test images that are right."""
    loss: str
    """Log loss, in nats."""
    accuracy: str
    """A percentage, or counts such as "3 of 4"."""
    interval: str
    """Of the accuracy: of groups, where some images are not independent."""
    about_interval: str
    """Sentences on how it is computed."""
    roc_auc: str
    """The mean over the classes, or "–"."""
    calibration_error: str
    calibration: str
    """A sentence on it."""


def describe_quality(figures: ResultFigures, groups: Groups, interval: Interval) -> Quality:
    """Describe the figures of N test images.

    Args:
        groups: (N,) Shared by images that are not independent.
        interval: The 95 % interval of the accuracy to report.
    """
    summary = figures.summary
    return Quality(
        n=summary["n"],
        correct=summary["correct"],
        loss=f"{summary['loss']:.4f}",
        accuracy=format_right(summary["correct"], summary["n"]),
        interval=format_interval(interval.low, interval.high),
        about_interval=describe_interval(summary, groups),
        roc_auc=macro("roc_auc", summary),
        calibration_error=_calibration_error(summary),
        calibration=describe_calibration(figures),
    )


def _calibration_error(figures: Figures) -> str:
    return format_share(figures["ece"]) if figures["n"] >= MIN_IMAGES else "–"
