"""Pictures that a page of Markdown can hold: GitHub and GitLab draw Mermaid, and no local file."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipeline.commands.ci import markdown
from pipeline.experiments.predictions import Prediction

BLUE, ORANGE = "#1f77b4", "#ff7f0e"
MAX_CLASSES = 10  # that a table shows
MAX_MISTAKES = 10  # kinds of them, that are listed where there are more classes
MAX_POINTS = 200  # of a line


def curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Loss and accuracy by epoch, as lines of Markdown; none of fewer than two validations."""
    if len(history) < 2:
        return []
    shown = history[:: math.ceil(len(history) / MAX_POINTS)]
    return [
        "Blue: training; orange: validation.",
        "",
        *_chart("Loss by epoch", shown, "loss"),
        "",
        *_chart("Accuracy by epoch", shown, "accuracy"),
    ]


def _chart(title: str, history: Sequence[Mapping[str, float]], what: str) -> list[str]:
    lines = [[record[f"{part}_{what}"] for record in history] for part in ("train", "val")]
    values = [value for line in lines for value in line]
    if not all(map(math.isfinite, values)):
        return [f"{title} cannot be drawn: a value is no number."]
    room = 0.05 * (max(values) - min(values)) or 0.05
    low, high = max(0.0, min(values) - room), max(values) + room
    palette = f'{{"xyChart": {{"plotColorPalette": "{BLUE}, {ORANGE}"}}}}'
    return [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {palette}}}}}%%',
        "xychart-beta",
        f'    title "{title}"',
        f'    x-axis "epoch" {history[0]["epoch"]:g} --> {history[-1]["epoch"]:g}',
        f'    y-axis "{what}" {low:.4f} --> {high:.4f}',
        *(f"    line [{', '.join(f'{value:.4f}' for value in line)}]" for line in lines),
        "```",
    ]


def confusion(said: Iterable[Prediction]) -> list[str]:
    """Who is taken for whom, as lines of Markdown."""
    counts = Counter((one.label, one.answer) for one in said)
    names = sorted({name for pair in counts for name in pair})
    if len(names) > MAX_CLASSES:
        return _most_frequent(counts)
    rows = [
        [name, *(_cell(counts[name, other], name == other) for other in names)] for name in names
    ]
    return [
        "Rows are what an image shows, columns what the model says.",
        "",
        *markdown.table(["", *names], rows),
    ]


def _cell(count: int, right: bool) -> markdown.Cell:
    return markdown.bold(str(count)) if right else str(count)


def _most_frequent(counts: Counter[tuple[str, str]]) -> list[str]:
    wrong = Counter({pair: count for pair, count in counts.items() if pair[0] != pair[1]})
    rows = [[*pair, str(count)] for pair, count in wrong.most_common(MAX_MISTAKES)]
    if not rows:
        return ["No image is taken for another."]
    return [
        "What is taken for something else most often.",
        "",
        *markdown.table(["shows", "taken for", "images"], rows),
    ]
