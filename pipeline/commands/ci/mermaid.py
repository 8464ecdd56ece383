"""Learning curves as Mermaid charts and confusions as tables, in Markdown.

GitHub and GitLab render Mermaid, but show no local image files.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from pipeline.commands.ci import markdown
from pipeline.experiments.predictions import Prediction

BLUE, ORANGE = "#1f77b4", "#ff7f0e"
MAX_CLASSES = 10  # in the confusion matrix
MAX_MISTAKES = 10  # pairs of classes listed in place of a larger matrix
MAX_POINTS = 200  # of a line
MARGIN = 0.05  # of the y axis, as a share of the range of the values


def curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Lines of two charts, loss and accuracy by epoch; none with fewer than two validations."""
    if len(history) < 2:
        return []
    step = math.ceil(len(history) / MAX_POINTS)
    x_axis, points = _x_axis([record["epoch"] for record in history], step), history[::step]
    return [
        "Blue: training; orange: validation.",
        "",
        *_chart("Loss", x_axis, points, "loss"),
        "",
        *_chart("Accuracy", x_axis, points, "accuracy"),
    ]


def _x_axis(epochs: Sequence[float], step: int) -> str:
    """The axis of every `step`-th validation. Mermaid draws points at equal distances.

    With train.validate_every, the last validation of an epoch may be closer to the one before.
    """
    distances = {round(second - first, 6) for first, second in pairwise(epochs)}
    if len(distances) > 1:
        return f'"validation" 1 --> {range(1, len(epochs) + 1, step)[-1]}'
    return f'"epoch" {epochs[0]:g} --> {epochs[::step][-1]:g}'


def _chart(
    name: str, x_axis: str, history: Sequence[Mapping[str, float]], metric: str
) -> list[str]:
    series = [[record[f"{split}_{metric}"] for record in history] for split in ("train", "val")]
    values = [value for points in series for value in points]
    if not all(map(math.isfinite, values)):
        return [f"{name} cannot be drawn: a value is not finite."]
    margin = MARGIN * (max(values) - min(values)) or MARGIN
    low, high = max(0.0, min(values) - margin), max(values) + margin
    decimals = max(4, 3 - math.floor(math.log10(high - low)))  # Mermaid reads no exponents
    palette = f'{{"xyChart": {{"plotColorPalette": "{BLUE}, {ORANGE}"}}}}'
    return [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {palette}}}}}%%',
        "xychart-beta",
        f'    title "{name}"',
        f"    x-axis {x_axis}",
        f'    y-axis "{metric}" {low:.{decimals}f} --> {high:.{decimals}f}',
        *(
            f"    line [{', '.join(f'{value:.{decimals}f}' for value in points)}]"
            for points in series
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


def _cell(count: int, is_right: bool) -> markdown.Cell:
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
