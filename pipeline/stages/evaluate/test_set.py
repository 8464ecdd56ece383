"""Run a trained model over its test set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.core import columns, shards
from pipeline.core.columns import Column
from pipeline.core.errors import PipelineError
from pipeline.core.progress import Progress, bar
from pipeline.network import device, feature_store, model_folder, scoring
from pipeline.network.abstention import AbstentionRule
from pipeline.network.examples import Examples
from pipeline.network.feature_store import Source
from pipeline.network.model_folder import Card
from pipeline.params import DeviceParams
from pipeline.stages.evaluate import metrics
from pipeline.stages.evaluate.abstention_result import ImageSets, SetCounter
from pipeline.stages.evaluate.class_scores import ClassScores, Scores, temporary_class_scores
from pipeline.stages.evaluate.embedding import capture_inputs
from pipeline.stages.evaluate.intervals import Groups
from pipeline.stages.evaluate.loaded_network import LoadedNetwork, load_network
from pipeline.stages.evaluate.metrics import ClassCounts, ClassFigures, ResultFigures, Selected
from pipeline.stages.evaluate.predictions_csv import PredictionRow
from pipeline.stages.evaluate.probabilities import (
    Floats,
    ImageProbabilities,
    Labels,
    Normaliser,
    TopClasses,
    reduce_scores,
)
from pipeline.stages.evaluate.ranking import Curve, rank
from pipeline.stages.evaluate.test_scores import RememberedScores


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready for the test set."""

    halves: LoadedNetwork
    source: Source
    """Inputs of the trained part: cached features, if there are any."""
    rule: AbstentionRule | None = None
    """By which the model abstains."""

    @property
    def network(self) -> nn.Module:
        return self.halves.network

    @property
    def card(self) -> Card:
        return self.halves.card


def load_model(
    models: Path, features: Path, clean: Path, examples: Examples, params: DeviceParams
) -> LoadedModel:
    """Load the model in the folder `models`."""
    halves = load_network(models, features, params)
    source = feature_store.open_source(features, clean, None, examples, halves.prefix)
    return LoadedModel(halves, source, model_folder.load_abstention(models, halves.card))


@dataclass(frozen=True)
class ClassCurves:
    """Curves of a class against the rest, thinned for drawing."""

    roc: Curve
    """False positive rate (x) and true positive rate (y)."""
    precision_recall: Curve
    """Recall (x) and precision (y)."""


@dataclass(frozen=True)
class TestSetResult:
    """A model's predictions for N test images, in the order of split.csv.

    It grows with the images and with the classes, not with their product.
    """

    ids: pa.StringArray
    labels: Labels
    """(N,)"""
    classes: list[str]
    as_trained: ImageProbabilities
    """Before calibration."""
    calibrated: ImageProbabilities
    """At the model's temperature, as `pipeline predict` prints them."""
    top: TopClasses
    """By calibrated probability."""
    class_figures: Sequence[ClassFigures]
    curves: dict[str, ClassCurves]
    """By class, of those that `metrics.select_classes` selects."""
    embedding: Floats
    """(M, F) Inputs of the network's last layer, of the first M images."""
    sets: ImageSets | None = None
    """None if the model does not abstain."""

    @property
    def predicted(self) -> Labels:
        return self.calibrated.predicted

    def mistakes(self) -> list[int]:
        """Indices of the wrong predictions, the most confident first."""
        indices = np.flatnonzero(self.predicted != self.labels)
        confidence = self.calibrated.of_predicted[indices]
        ordered: list[int] = indices[np.argsort(-confidence, kind="stable")].tolist()
        return ordered


def run_on_test_set(
    model: LoadedModel, examples: Examples, remembered: RememberedScores | None = None
) -> TestSetResult:
    """Run the model over the test images.

    Args:
        remembered: Their scores, where no features are stored.
    """
    rows = examples.rows("test")
    labels = np.asarray(examples.labels[rows])
    halves, temperature = model.halves, model.card.temperature
    counter = SetCounter(model.rule, temperature, labels) if model.rule else None
    with (
        device.explain_out_of_memory("lower images.size"),
        capture_inputs(halves.head) as inputs,
        temporary_class_scores(len(rows)) as scores,
        bar("evaluate", len(rows)) as progress,
    ):
        batches = (
            scoring.score_batches(halves.trained, model.source, rows)
            if remembered is None
            else remembered.batches()
        )
        finite = _finite(batches, len(rows), progress)
        result = collect(
            examples.ids.take(shards.array(rows)),
            labels,
            examples.classes,
            counter.watch(finite) if counter else finite,
            temperature,
            scores,
        )
    embedding = torch.cat(inputs) if remembered is None else remembered.embedding()
    values = embedding.double().numpy()
    return replace(result, embedding=values, sets=counter.result(values) if counter else None)


def _finite(batches: Iterable[Tensor], images: int, progress: Progress) -> Iterable[Scores]:
    """The batches as arrays; raises PipelineError at the end if some scores are not finite."""
    invalid = 0
    for batch in batches:
        progress.update(len(batch))
        invalid += int((~batch.isfinite()).any(dim=1).sum())
        yield (batch.nan_to_num() if invalid else batch).numpy()
    if invalid:
        raise PipelineError(
            f"the model's scores are not finite numbers for {invalid} of {images} test images: "
            "train it again, with a lower train.lr or features.precision=32-true"
        )


def collect(
    ids: pa.StringArray,
    labels: Labels,
    classes: list[str],
    batches: Iterable[Scores],
    temperature: float,
    scores: ClassScores,
) -> TestSetResult:
    """The result of N images, from their scores in batches (B, classes); without an embedding.

    Args:
        scores: For N images, still empty.
    """
    reduced = reduce_scores(batches, labels, temperature, scores)
    counts = metrics.count_classes(labels, reduced.calibrated.predicted, len(classes))
    figures, curves = _by_class(labels, classes, counts, scores, reduced.normaliser)
    return TestSetResult(
        ids,
        labels,
        classes,
        reduced.as_trained,
        reduced.calibrated,
        reduced.top,
        figures,
        curves,
        embedding=np.zeros((0, 0)),
    )


def _by_class(
    labels: Labels,
    classes: Sequence[str],
    counts: ClassCounts,
    scores: ClassScores,
    normaliser: Normaliser,
) -> tuple[list[ClassFigures], dict[str, ClassCurves]]:
    """Figures of all classes, and the curves of the selected ones; one class at a time."""
    figures = [counts.figures(number, label) for number, label in enumerate(classes)]
    selected, curves = set(metrics.select_classes(figures).numbers), {}
    for number, row in enumerate(figures):
        if not 0 < row.n < len(labels):
            continue
        of_class = normaliser.probabilities(scores.of_class(number))
        ranking = rank(labels == number, of_class)
        figures[number] = replace(
            row, roc_auc=ranking.roc_auc, average_precision=ranking.average_precision
        )
        if number in selected:
            curves[row.label] = ClassCurves(
                ranking.roc.thinned(), ranking.precision_recall.thinned()
            )
    return figures, curves


def compute_figures(
    result: TestSetResult,
    groups: Groups,
    slices: Mapping[str, Selected],
    temperature: float,
) -> ResultFigures:
    """All figures of a result.

    Args:
        groups: Shared by images that are not independent.
        slices: Images whose accuracy is reported separately, by name.
        temperature: Of the calibrated probabilities.
    """
    labels, calibrated = result.labels, result.calibrated
    return ResultFigures(
        metrics.summarise(labels, calibrated, result.top, result.class_figures, groups),
        result.class_figures,
        metrics.slice_figures(result.predicted == labels, slices),
        metrics.calibration_figures(metrics.AS_TRAINED, 1.0, result.as_trained, labels),
        metrics.calibration_figures(metrics.CALIBRATED, temperature, calibrated, labels),
    )


def prediction_rows(result: TestSetResult, groups: Column) -> Iterator[PredictionRow]:
    """The rows of predictions.csv.

    Args:
        groups: (N,) Texts that images share which are not independent, "" for one on its own.
    """
    classes, labels, predicted = result.classes, result.labels, result.predicted
    texts = zip(columns.iterate(result.ids), columns.iterate(groups), strict=True)
    for number, (key, group) in enumerate(texts):
        names = (classes[index] for index in result.top.classes[number])
        yield PredictionRow(
            key,
            classes[labels[number]],
            classes[predicted[number]],
            group,
            float(result.calibrated.of_label[number]),
            dict(zip(names, result.top.probabilities[number].tolist(), strict=True)),
        )
