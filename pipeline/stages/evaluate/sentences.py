"""Sentences of the report on its figures."""

from pipeline.core.percentages import MIN_IMAGES, format_interval, format_share
from pipeline.core.plurals import plural
from pipeline.network import calibration
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import ALONE, Groups, Interval
from pipeline.stages.evaluate.metrics import Figures, ResultFigures

MIN_PER_BIN = 10  # images on average, for a calibration error that is not mostly chance


def describe_bootstrap(figures: Figures, groups: Groups) -> str:
    """What resampling groups says that Wilson's interval, of independent images, does not."""
    interval = Interval(figures["accuracy.bootstrap_low"], figures["accuracy.bootstrap_high"])
    count, is_grouped = intervals.count_groups(groups), bool((groups != ALONE).any())
    together = "images of one group (of one owner, or near-duplicates) are right or wrong together"
    if not interval.is_empty:
        ends = format_interval(interval.low, interval.high)
        if not is_grouped:
            return f"Bootstrapping images gives {ends}."
        return f"Bootstrapping groups gives {ends}: {together}."
    if not is_grouped:
        return "Bootstrapping gives no interval, because all images are equally right."
    if count == 1:
        return f"All test images are of one group, but {together}: they say little of others."
    right = round(figures["accuracy"] * count)
    wilson = intervals.wilson(right, count)
    return (
        f"But {together}. Bootstrapping groups gives no interval, because all are equally right; "
        f"counting each of the {count} groups once, Wilson's is "
        f"{format_interval(wilson.low, wilson.high)}."
    )


def describe_calibration(figures: ResultFigures) -> str:
    count = figures.summary["n"]
    if count < MIN_IMAGES:
        images = plural(count, "image is", "images are")
        return f"{images} too few to measure how far the probabilities are off."
    sentence = (
        f"The probabilities are then off by {format_share(figures.calibrated.ece)} on average; "
        f"without it, by {format_share(figures.as_trained.ece)}."
    )
    if count < MIN_PER_BIN * calibration.BINS:
        sentence += f" Of {count} images, part of that is chance."
    return sentence
