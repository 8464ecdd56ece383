import pytest

from pipeline.tracking.metric_sections import CLASS_FIGURES, MAX_METRICS, in_sections

SUMMARY = ["accuracy", "loss", "n", "correct", "ece", "f1.macro", "recall.macro", "temperature"]


def metrics(classes: int, slices: int) -> dict[str, float | None]:
    names = [
        *SUMMARY,
        *(f"{figure}.class {n}" for n in range(classes) for figure in CLASS_FIGURES),
        *(f"{figure}.slice.folder {n}" for n in range(slices) for figure in ("accuracy", "n")),
    ]
    return dict.fromkeys(names, 0.5)


def test_the_section_of_a_figure() -> None:
    assert set(in_sections(metrics(1, 1))) == {
        "test/accuracy",
        "test/loss",
        "test/ece",
        "test/f1.macro",
        "test_details/n",
        "test_details/correct",
        "test_details/recall.macro",
        "test_details/temperature",
        *(f"test_classes/{figure}.class 0" for figure in CLASS_FIGURES),
        "test_slices/accuracy.slice.folder 0",
        "test_slices/n.slice.folder 0",
    }


@pytest.mark.parametrize(
    ("classes", "figures"),
    [
        (2, CLASS_FIGURES),
        (10, ("f1", "recall", "precision", "roc_auc", "average_precision")),
        (30, ("f1",)),
        (1000, ()),
    ],
)
def test_a_figure_of_many_classes_is_logged_for_all_or_none(
    classes: int, figures: tuple[str, ...]
) -> None:
    """A metrics.json of an older version has figures of every class."""
    logged = in_sections(metrics(classes, 8))
    assert len(logged) <= MAX_METRICS
    assert {f"test_classes/{figure}.class {n}" for figure in figures for n in range(classes)} == {
        name for name in logged if name.startswith("test_classes/")
    }
    assert sum(name.startswith("test_slices/accuracy") for name in logged) == 8


def test_any_number_of_unknown_figures_is_cut() -> None:
    names = [f"figure {number}" for number in range(10_000)]
    logged = in_sections(dict.fromkeys(["accuracy", *names], 1.0))
    assert len(logged) == MAX_METRICS
    assert "test/accuracy" in logged
