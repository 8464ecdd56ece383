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
            f"Estimated accuracy on these images: {format_share(estimate.accuracy)} "
            f"({self.describe_interval()}), by how sure the model is; on the test images it is "
            f"{format_share(estimate.test_accuracy)}. {self._limits}"
        )

    def describe_interval(self) -> str:
        """The interval of the estimate, or why there is none."""
        interval = self.accuracy.interval
        if interval is None:
            return f"no interval: it takes {MIN_GROUPS} images that are no near-duplicates"
        return f"95 %: {format_interval(interval.low, interval.high)}"

    @property
    def _limits(self) -> str:
        if self.comparison.far.p <= self.comparison.level:
            return (
                "So many are far that this is probably too high: the model may be sure and wrong "
                "of what it has never seen."
            )
        return "Classes that the model does not know are not in it."

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the classes."""
        comparison = self.comparison
        header = ["taken for", "images", "far", "held-out images", "far", ""]
        rows = [
            [
                count.name,
                str(count.images),
                str(count.far),
                str(count.other_images),
                str(count.other_far),
                "far" if count.name in comparison.far_classes else "",
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
