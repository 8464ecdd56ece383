"""New images against the data set and the model of the workspace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.commands.drift.accuracy import (
    MIN_GROUPS,
    AccuracyEstimate,
    estimate_accuracy,
)
from pipeline.commands.drift.comparison import DriftComparison, compare_samples
from pipeline.commands.drift.known_images import (
    DataFolders,
    KnownImages,
    TrainedModel,
    right_answers,
)
from pipeline.commands.drift.new_images import NewImageReader
from pipeline.commands.drift.sample import AnsweredImages, Answers, Sample
from pipeline.commands.drift.served_log import find_log, read_served
from pipeline.core.errors import format_counts
from pipeline.core.percentages import format_interval, format_share
from pipeline.images.key_index import KeySet
from pipeline.params import Params


@dataclass(frozen=True)
class Drift:
    """The result of `pipeline drift`."""

    comparison: DriftComparison
    accuracy: AccuracyEstimate
    new: AnsweredImages

    def sentences(self) -> list[str]:
        """The result, for people."""
        sentences = [*self.comparison.sentences(), self.describe_accuracy()]
        if self.new.left_out:
            sentences.append(f"Not compared: {format_counts(self.new.left_out)}.")
        return sentences

    def describe_accuracy(self) -> str:
        """The estimate, for people."""
        estimate = self.accuracy
        return (
            f"Estimated accuracy on the new images: {format_share(estimate.accuracy)} "
            f"({self.describe_interval()}), judging by the model's confidence; on the test images "
            f"it is {format_share(estimate.test_accuracy)}. {self._limits}"
        )

    def describe_interval(self) -> str:
        """The interval of the estimate, or why there is none."""
        interval = self.accuracy.interval
        if interval is None:
            return f"no interval: that needs {MIN_GROUPS} images without near-duplicates"
        return f"95 %: {format_interval(interval.low, interval.high)}"

    @property
    def _limits(self) -> str:
        if self.comparison.far.p <= self.comparison.level:
            return (
                "With so many far images this is probably too high: a model can be confident and "
                "wrong about what it has never seen."
            )
        return "It does not account for classes that the model does not know."

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the classes."""
        comparison = self.comparison
        header = ["predicted class", "new images", "far", "val and test images", "far", ""]
        rows = [
            [
                count.name,
                str(count.images),
                str(count.far),
                str(count.other_images),
                str(count.other_far),
                "more than expected" if count.name in comparison.far_classes else "",
            ]
            for count in comparison.classes
        ]
        return header, rows


def compare_new(
    paths: Sequence[str],
    params: Params,
    level: float,
    workspace: Path,
    folders: DataFolders | None = None,
) -> Drift:
    """Compare the images at `paths` with the data set; `workspace` is an empty folder.

    Raises:
        PipelineError: no features are stored, there is no model, or there are no new images.
    """
    folders = folders or DataFolders()
    known = KnownImages(folders)
    model = TrainedModel(folders, known, params.device)
    log = find_log(paths)
    if log is not None:
        served = read_served(log, model.network.card.fingerprint, known.width)
        return _compare(known, model, served, level)
    reader = NewImageReader(workspace, model.network, params)
    new = reader.read(paths, KeySet(known.examples.ids))
    answers = model.answer(new.features, np.arange(len(new)))
    sample = Sample(new.features.values(), new.groups, answers.classes)
    answered = AnsweredImages(sample, answers, new.names, new.ids, new.left_out, new.clean)
    return _compare(known, model, answered, level)


def _compare(known: KnownImages, model: TrainedModel, new: AnsweredImages, level: float) -> Drift:
    training, rows = known.sample(known.rows("train")), known.rows("val", "test")
    held_out = known.sample(rows)
    held_out = replace(held_out, classes=model.answer_known(rows).classes)
    return Drift(
        compare_samples(training, held_out, new.sample, level),
        _estimate(known, model, new.sample, new.answers),
        new,
    )


def _estimate(
    known: KnownImages, model: TrainedModel, new: Sample, answers: Answers
) -> AccuracyEstimate:
    """The accuracy on new images, from that on the test images, which had no part in the model."""
    rows = known.rows("test")
    test_answers = model.answer_known(rows)
    return estimate_accuracy(
        answers.confidence,
        new.groups,
        test_answers.confidence,
        right_answers(test_answers, known.classes(rows)),
        known.groups(rows),
    )
