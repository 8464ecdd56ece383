"""Sentences of the report on its figures."""

from pipeline.core.percentages import MIN_IMAGES, format_interval, format_share
from pipeline.core.plurals import plural
from pipeline.network import calibration
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import ALONE, Groups, Interval
from pipeline.stages.evaluate.metrics import Figures, ResultFigures

MIN_PER_BIN = 10  # images on average, for a calibration error that is not mostly chance


def describe_interval(figures: Figures, groups: Groups) -> str:
    """How `verdict.accuracy_interval` comes about, and what the interval is by the other method."""
    interval = Interval(figures["accuracy.bootstrap_low"], figures["accuracy.bootstrap_high"])
    count, is_grouped = intervals.count_groups(groups), bool((groups != ALONE).any())
    if not is_grouped:
        bootstrap = "" if interval.is_empty else f"; bootstrapping gives {_format(interval)}"
        return f"The interval at the top is Wilson's, for independent images{bootstrap}."
    together = "images of one group (of one owner, or near-duplicates) are right or wrong together"
    if count == 1:
        return (
            f"All test images are of one group, and {together}: the interval at the top counts "
            "them as one image, and they say little of others."
        )
    method = (
        f"counts each of the {count} groups once (Wilson's)"
        if interval.is_empty
        else f"comes from resampling the {count} groups (bootstrap)"
    )
    wilson = Interval(figures["accuracy.wilson_low"], figures["accuracy.wilson_high"])
    return (
        f"The interval at the top {method}, because {together}. If all images were independent, "
        f"Wilson's interval would be {_format(wilson)}."
    )


def _format(interval: Interval) -> str:
    return format_interval(interval.low, interval.high)


def describe_calibration(figures: ResultFigures) -> str:
    count = figures.summary["n"]
    if count < MIN_IMAGES:
        images = plural(count, "image is", "images are")
        return f"{images} too few to measure how far the probabilities are off."
    sentence = (
        f"With it, the probabilities are off by {format_share(figures.calibrated.ece)} on average; "
        f"without it, by {format_share(figures.as_trained.ece)}."
    )
    if count < MIN_PER_BIN * calibration.BINS:
        sentence += f" With only {count} images, part of that is chance."
    return sentence
