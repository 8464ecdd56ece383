"""Learning curves as Mermaid charts and confusions as tables, in Markdown.

GitHub and GitLab render Mermaid, but show no local image files.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
    points = history[:: math.ceil(len(history) / MAX_POINTS)]
    return [
        "Blue: training; orange: validation.",
        "",
        *_chart("Loss by epoch", points, "loss"),
        "",
        *_chart("Accuracy by epoch", points, "accuracy"),
    ]


def _chart(title: str, history: Sequence[Mapping[str, float]], metric: str) -> list[str]:
    series = [[record[f"{split}_{metric}"] for record in history] for split in ("train", "val")]
    values = [value for points in series for value in points]
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
        f'    x-axis "epoch" {history[0]["epoch"]:g} --> {history[-1]["epoch"]:g}',
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
