"""Whether a training diverged: its loss grew, or stayed far above that of guessing."""

import math
from collections.abc import Sequence

from pipeline.core.history import Record
from pipeline.params import TrainParams

MARGIN = 1.5  # times the loss of guessing, which the first steps of a sound training may exceed
GROWTH = 2.0  # times the first loss: of small batches, losses vary


def describe_divergence(history: Sequence[Record], classes: int, params: TrainParams) -> str:
    """A sentence on a training loss that did not fall; "" if it fell.

    The loss of validation says too little: a model with enormous scores may be right on each of a
    few images.
    """
    first, last = history[0].train_loss, history[-1].train_loss
    lowest, guessing = min(record.train_loss for record in history), math.log(classes)
    if lowest > MARGIN * guessing:
        problem = (
            f"the training loss never fell below {lowest:.3g}, and guessing one of {classes} "
            f"classes has {guessing:.3g}"
        )
    elif last > max(GROWTH * first, guessing):
        problem = f"the training loss grew from {first:.3g} to {last:.3g}"
    else:
        return ""
    return f"train: {problem}: {how_to_stop(params)}"


def how_to_stop(params: TrainParams) -> str:
    """What to change in a training that diverges; without values, as a sweep counts reasons."""
    advice = "lower train.lr"
    return advice if params.clip_norm else f"{advice}, or set train.clip_norm=1"
