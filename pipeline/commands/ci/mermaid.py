"""Learning curves as Mermaid charts and confusions as tables, in Markdown.

GitHub and GitLab render Mermaid, but show no local image files.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from pipeline.commands.ci import markdown
from pipeline.core.history import Record
from pipeline.experiments.predictions import Prediction

BLUE, ORANGE = "#1f77b4", "#ff7f0e"
MAX_CLASSES = 10  # in the confusion matrix
MAX_MISTAKES = 10  # pairs of classes listed in place of a larger matrix
MAX_POINTS = 200  # of a line
MARGIN = 0.05  # of the y axis, as a share of the range of the values


def curves(records: Sequence[Record]) -> list[str]:
    """Lines of two charts, loss and accuracy by epoch; none with fewer than two validations."""
    if len(records) < 2:
        return []
    step = math.ceil(len(records) / MAX_POINTS)
    x_axis, drawn = _x_axis([record.epoch for record in records], step), records[::step]
    return [
        "Blue: training; orange: validation.",
        "",
        *_chart("Loss", x_axis, [record.losses for record in drawn]),
        "",
        *_chart("Accuracy", x_axis, [record.accuracies for record in drawn]),
    ]


def _x_axis(epochs: Sequence[float], step: int) -> str:
    """The axis of every `step`-th validation. Mermaid draws points at equal distances.

    With train.validate_every, the last validation of an epoch may be closer to the one before.
    """
    distances = {round(second - first, 6) for first, second in pairwise(epochs)}
    if len(distances) > 1:
        return f'"validation" 1 --> {range(1, len(epochs) + 1, step)[-1]}'
    return f'"epoch" {epochs[0]:g} --> {epochs[::step][-1]:g}'


def _chart(title: str, x_axis: str, pairs: Sequence[tuple[float, float]]) -> list[str]:
    """A line of training and one of validation."""
    values = [value for pair in pairs for value in pair]
    if not all(map(math.isfinite, values)):
        return [f"{title} cannot be drawn: a value is not finite."]
    margin = MARGIN * (max(values) - min(values)) or MARGIN
    low, high = max(0.0, min(values) - margin), max(values) + margin
    decimals = max(4, 3 - math.floor(math.log10(high - low)))  # Mermaid reads no exponents
    palette = f'{{"xyChart": {{"plotColorPalette": "{BLUE}, {ORANGE}"}}}}'
    return [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {palette}}}}}%%',
        "xychart-beta",
        f'    title "{title}"',
        f"    x-axis {x_axis}",
        f'    y-axis "{title.lower()}" {low:.{decimals}f} --> {high:.{decimals}f}',
        *(
            f"    line [{', '.join(f'{value:.{decimals}f}' for value in points)}]"
            for points in zip(*pairs, strict=True)
        ),
        "```",
    ]


def confusion(predictions: Iterable[Prediction]) -> list[str]:
    """Lines of the confusion matrix; of the most frequent mistakes if there are many classes."""
    counts = Counter((prediction.label, prediction.predicted) for prediction in predictions)
    classes = sorted({name for pair in counts for name in pair})
    if len(classes) > MAX_CLASSES:
        return _most_frequent(counts)
    rows = [
        [label, *(_cell(counts[label, predicted], label == predicted) for predicted in classes)]
        for label in classes
    ]
    return ["Rows are labels, columns are predictions.", "", *markdown.table(["", *classes], rows)]


def _cell(count: int, is_right: bool) -> markdown.TableCell:
    return markdown.bold(str(count)) if is_right else str(count)


def _most_frequent(counts: Counter[tuple[str, str]]) -> list[str]:
    mistakes = Counter({pair: count for pair, count in counts.items() if pair[0] != pair[1]})
    ordered = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))
    rows = [[*pair, str(count)] for pair, count in ordered[:MAX_MISTAKES]]
    if not rows:
        return ["There are no mistakes."]
    lines = markdown.table(["label", "predicted", "images"], rows)
    if left_out := ordered[MAX_MISTAKES:]:
        most = left_out[0][1]
        lines += ["", f"And {len(left_out)} more pairs of classes, each with {most} or fewer."]
    return ["The most frequent mistakes:", "", *lines]
