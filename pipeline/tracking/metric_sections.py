"""The metrics of a test result that a run gets, in the sections of MLflow's pages."""

from collections.abc import Mapping

MAX_METRICS = 70  # with the curves of the training and the use of two GPUs, 100 in a run
HEADLINES = ("accuracy", "loss", "f1.macro", "roc_auc.macro", "ece")
CLASS_FIGURES = (
    "f1",
    "recall",
    "precision",
    "roc_auc",
    "average_precision",
    "correct",
    "n",
    "predicted",
)
SUMMARY, SLICE = "", ".slice"
# What is logged first; `correct` and so on stand for these figures of all classes.
GROUPS = (
    SUMMARY,
    f"accuracy{SLICE}",
    *CLASS_FIGURES[:5],
    f"n{SLICE}",
    *CLASS_FIGURES[5:],
)


def in_sections(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """At most `MAX_METRICS` metrics, with the section before the name.

    A figure of classes or slices is logged for all of them, or for none where that were too many;
    the CSV files among the run's artifacts have the others.
    """
    logged: dict[str, float | None] = {}
    for group in GROUPS:
        names = [name for name in metrics if _group(name) == group]
        if group == SUMMARY:
            names = names[:MAX_METRICS]
        if len(logged) + len(names) <= MAX_METRICS:
            logged |= {_section(name) + name: metrics[name] for name in names}
    return logged


def _group(name: str) -> str:
    figure, _, rest = name.partition(".")
    if rest.startswith("slice."):
        return figure + SLICE
    is_of_class = figure in CLASS_FIGURES and rest not in {"", "macro"}
    return figure if is_of_class else SUMMARY


def _section(name: str) -> str:
    """The section of a metric: sections are sorted by name, and the most compared come first."""
    if name in HEADLINES:
        return "test/"
    group = _group(name)
    if group == SUMMARY:
        return "test_details/"
    return "test_slices/" if group.endswith(SLICE) else "test_classes/"
