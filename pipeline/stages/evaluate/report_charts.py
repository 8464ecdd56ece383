"""The charts of the report, as SVG."""

from collections.abc import Sequence

from pipeline.core.history import Record
from pipeline.network.calibration import Floats
from pipeline.stages.evaluate.class_rows import MAX_CLASSES, select_classes
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.drawing import ChartFacts
from pipeline.stages.evaluate.svg.chart import Chart
from pipeline.stages.evaluate.svg.class_accuracy import draw_class_accuracy
from pipeline.stages.evaluate.svg.confusion import draw_confusion
from pipeline.stages.evaluate.svg.learning import draw_accuracy, draw_loss
from pipeline.stages.evaluate.svg.reliability import draw_reliability
from pipeline.stages.evaluate.svg.similarity import draw_similarity
from pipeline.stages.evaluate.svg.thresholds import draw_precision_recall, draw_roc
from pipeline.stages.evaluate.test_set import TestSetResult


def draw_report_charts(
    records: Sequence[Record],
    facts: ChartFacts,
    result: TestSetResult,
    points: Floats,
) -> dict[str, Chart]:
    """All charts, by name; of many classes at most `MAX_CLASSES` are drawn.

    Args:
        points: (N, 2) The first test images on the map.
    """
    matrix = confusion_matrix(result.labels, result.predicted, result.classes, MAX_CLASSES)
    return {
        "classes": draw_class_accuracy(*select_classes(result.class_figures)),
        "confusion": draw_confusion(matrix),
        "roc": draw_roc(facts.roc, facts.curves_title),
        "precision_recall": draw_precision_recall(facts.precision_recall, facts.curves_title),
        "reliability": draw_reliability(facts.as_trained, facts.calibrated),
        "loss": draw_loss(records),
        "accuracy": draw_accuracy(records),
        "similarity": draw_similarity(points, facts.labels, facts.predicted, facts.classes),
    }
