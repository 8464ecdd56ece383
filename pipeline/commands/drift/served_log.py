"""The log of `pipeline serve --log` as new images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.commands.drift.sample import AnsweredImages, Answers, Sample
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.inference.answer_log import LoggedAnswer, is_log, read_log

OTHER_MODEL = "answered by another model"


def find_log(paths: Sequence[str]) -> Path | None:
    """The log among some inputs; None if they are images.

    Raises:
        PipelineError: there is more than the log.
    """
    logs = [path for path in map(Path, paths) if is_log(path)]
    if logs and len(paths) > 1:
        raise PipelineError(f"{logs[0]} is the log of a service: compare it alone")
    return logs[0] if logs else None


def read_served(path: Path, fingerprint: str, width: int) -> AnsweredImages:
    """The images in a log that a model answered; the same image twice is one group.

    Args:
        fingerprint: Of the model's training.
        width: Number of features of an image of the data set.

    Raises:
        PipelineError: there are none, or the log is damaged.
    """
    answers: list[LoggedAnswer] = []
    left_out = Counter[str]()
    for answer in read_log(path):
        if answer.fingerprint == fingerprint:
            answers.append(answer)
        else:
            left_out[OTHER_MODEL] += 1
    if not answers:
        raise PipelineError(f"{path} has no answers of the model in models/: it serves another")
    if others := {answer.features.size for answer in answers} - {width}:
        raise PipelineError(
            f"{path} is damaged: an answer has {plural(min(others), 'feature')}, and an image of "
            f"the data set {width}"
        )
    values = np.stack([answer.features for answer in answers])
    _, groups = np.unique(values, axis=0, return_inverse=True)
    labels = [answer.label for answer in answers]
    names = [f"answer {number}" for number in range(1, len(answers) + 1)]
    return AnsweredImages(
        Sample(values, groups.reshape(-1).astype(np.int32), labels),
        Answers(labels, np.array([answer.probability for answer in answers])),
        names,
        names,
        left_out,
        None,
    )
