"""What `dvc plots` draws is what the tables hold: its pages are drawn by Vega and measured."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.cli import main as dvc
from ruamel.yaml import YAML
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.core import atomic
from pipeline.network import calibration
from pipeline.network.calibration import Bins
from pipeline.stages.evaluate import tables, test_set
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.probabilities import ImageProbabilities
from pipeline.stages.evaluate.ranking import Selected
from tests import ROOT
from tests.builders.repositories import commit_all, git
from tests.builders.results import result_of
from tests.vega import Drawing, Floats, draw, read_specs

WITH_IMAGES = ["ants", "bees", "蚂蚁 $_$"]
CLASSES = [*WITH_IMAGES, "cats"]
SIDE = 300  # pixels of a plot
PLOTS: list[dict[str, Any]] = [
    plot
    for plot in YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]
    if not next(iter(plot)).endswith(".png")
]
(TITLES,) = [{name: values["title"] for plot in PLOTS for name, values in plot.items()}]


def made_up_result(seed: int, certainty: float) -> test_set.TestSetResult:
    """90 images; probabilities have ties, and the first class is always recognised."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 90)
    scores = random.normal(size=(90, 4)).round(1) + certainty * np.eye(4)[labels]
    scores[:, 0] = np.where(labels == 0, 9, -9)
    result = result_of(labels, scores, CLASSES, 1.5)
    return replace(result, embedding=random.normal(size=(90, 2)) * 30)


def reliability_bins(result: test_set.TestSetResult, values: ImageProbabilities) -> Bins:
    return calibration.reliability_bins(values.of_predicted, values.predicted == result.labels)


def write_tables(
    folder: Path, result: test_set.TestSetResult, history: list[dict[str, float]]
) -> None:
    test = folder / "reports/test"
    test.mkdir(parents=True, exist_ok=True)
    roc = {name: curves.roc for name, curves in result.curves.items()}
    precision = {name: curves.precision_recall for name, curves in result.curves.items()}
    tables.write_curves(test / "roc.csv", roc)
    tables.write_curves(test / "precision_recall.csv", precision)
    matrix = confusion_matrix(result.labels, result.predicted, result.classes)
    tables.write_confusion(test / "confusion.csv", matrix)
    before, after = (
        reliability_bins(result, values) for values in (result.as_trained, result.calibrated)
    )
    tables.write_reliability(test / "reliability.csv", before, after)
    tables.write_embedding(test / "embedding.csv", result.embedding, result)
    rows = [list(row.values()) for row in history]
    atomic.write_csv(folder / "reports/history.csv", list(history[0]), rows)


def made_up_history(rate: float) -> list[dict[str, float]]:
    """Twelve epochs: as text, 10 comes before 2. The loss jumps, which smoothing would hide."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    return [
        {"epoch": epoch} | dict.fromkeys(names, rate / epoch + epoch % 3 * 0.1)
        for epoch in range(1, 13)
    ]


@dataclass(frozen=True)
class Pages:
    """The pages of `dvc plots` on a repository with two results."""

    folder: Path
    results: dict[str, test_set.TestSetResult]
    """By revision."""
    histories: dict[str, list[dict[str, float]]]

    @cached_property
    def diff(self) -> dict[str, dict[str, Any]]:
        return read_specs(self.folder / "diff/index.html")

    @cached_property
    def show(self) -> dict[str, dict[str, Any]]:
        return read_specs(self.folder / "show/index.html")

    def drawing(self, name: str) -> Drawing:
        """Of both revisions."""
        return draw(self.diff[TITLES[name]])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("plots")
    results = {"old": made_up_result(1, 1.0), "new": made_up_result(2, 2.0)}
    histories = {"old": made_up_history(0.9), "new": made_up_history(0.5)}
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    YAML(typ="safe", pure=True).dump({"plots": PLOTS}, folder / "dvc.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, result in results.items():
            write_tables(folder, result, histories[name])
            commit_all(name, folder)
            git("tag", name, folder=folder)
        assert dvc(["plots", "show", "-q", "--out", "show"]) == 0
        assert dvc(["plots", "diff", "-q", "old", "new", "--out", "diff"]) == 0
        yield Pages(folder, results, histories)


def shares(points: Floats) -> Floats:
    """(N, 2) Pixels of a plot whose axes go from -0.02 to 1.02, as numbers."""
    return np.column_stack([points[:, 0], SIDE - points[:, 1]]) / SIDE * 1.04 - 0.02


def ranking(result: test_set.TestSetResult, name: str) -> tuple[Selected, Floats]:
    """Whether each image is of a class, and its probability; the top classes are all here."""
    number = CLASSES.index(name)
    values = np.take_along_axis(
        result.top.probabilities, np.argsort(result.top.classes, axis=1), axis=1
    )
    return result.labels == number, values[:, number]


def assert_one_line_per_class_and_revision(drawing: Drawing) -> None:
    lines = drawing.marks("line mark")
    pairs = {(line.values["class"], line.values["revision"]) for line in lines}
    assert pairs == {(name, revision) for name in WITH_IMAGES for revision in ("old", "new")}
    assert len(lines) == len(pairs)
    colours = {(line.values["class"], line.style["stroke"]) for line in lines}
    assert len({colour for _, colour in colours}) == len(colours) == len(WITH_IMAGES)
    dashes = {(line.values["revision"], line.style["stroke-dasharray"]) for line in lines}
    assert len({dash for _, dash in dashes}) == len(dashes) == 2
    assert {*WITH_IMAGES, "old", "new"} <= set(drawing.texts)


def test_the_area_below_a_roc_curve_is_its_auc(pages: Pages) -> None:
    drawing = pages.drawing("roc")
    assert_one_line_per_class_and_revision(drawing)
    for line in drawing.marks("line mark"):
        points = shares(line.points)
        area = float(np.trapezoid(points[:, 1], points[:, 0]))
        positive, scores = ranking(pages.results[line.values["revision"]], line.values["class"])
        assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-4)
        assert (line.values["class"] == "ants") == (area == pytest.approx(1, abs=1e-4))


def test_the_points_of_a_roc_curve_are_those_of_the_table(pages: Pages) -> None:
    rows = atomic.read_csv(pages.folder / "reports/test/roc.csv")
    for line in pages.drawing("roc").marks("line mark"):
        if line.values["revision"] == "new":
            name = line.values["class"]
            table = [(float(row["x"]), float(row["y"])) for row in rows if row["class"] == name]
            assert shares(line.points) == pytest.approx(np.array(table), abs=1e-4)


def test_the_area_below_a_precision_recall_curve_is_the_average_precision(pages: Pages) -> None:
    drawing = pages.drawing("precision_recall")
    assert_one_line_per_class_and_revision(drawing)
    for line in drawing.marks("line mark"):
        points = shares(line.points)
        area = -float(np.trapezoid(points[:, 1], points[:, 0]))  # from recall 1 to recall 0
        positive, scores = ranking(pages.results[line.values["revision"]], line.values["class"])
        assert area == pytest.approx(average_precision_score(positive, scores), abs=1e-4)


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_a_history_passes_through_every_epoch(pages: Pages, name: str) -> None:
    lines = pages.drawing(name).marks("line mark")
    columns = {f"train_{name}", f"val_{name}"}
    assert {(line.values["column"], line.values["revision"]) for line in lines} == {
        (column, revision) for column in columns for revision in ("old", "new")
    }
    assert len({(line.style["stroke"], line.style["stroke-dasharray"]) for line in lines}) == 4
    drawn = np.concatenate([line.points for line in lines])
    values = np.array(
        [
            (row["epoch"], row[line.values["column"]])
            for line in lines
            for row in pages.histories[line.values["revision"]]
        ]
    )
    assert_linear(drawn, values)


def assert_linear(points: Floats, values: Floats) -> None:
    """Pixels (N, 2) are values (N, 2) on two linear axes, with y upwards."""
    for axis, direction in ((0, 1), (1, -1)):
        slope, start = np.polyfit(values[:, axis], points[:, axis], 1)
        assert slope * direction > 0
        assert points[:, axis] == pytest.approx(start + slope * values[:, axis], abs=0.01)


def test_the_map_has_the_colours_of_the_classes_and_rings_around_mistakes(pages: Pages) -> None:
    colours: set[tuple[str, str]] = set()
    drawing = pages.drawing("embedding")
    for panel, result in zip(drawing.panels(), pages.results.values(), strict=True):
        dots = [mark for mark in panel.marks("point") if "fill" in mark.style]
        rings = [mark for mark in panel.marks("point") if "fill" not in mark.style]
        ids = result.ids.to_pylist()
        places = dict(zip(ids, result.embedding, strict=True))
        labels = {key: CLASSES[label] for key, label in zip(ids, result.labels, strict=True)}
        assert {mark.values["image"] for mark in dots} == set(ids)
        points = np.concatenate([mark.points for mark in dots])
        assert_linear(points, np.array([places[mark.values["image"]] for mark in dots]))
        colours |= {(labels[mark.values["image"]], mark.style["fill"]) for mark in dots}
        mistakes = {ids[index] for index in result.mistakes()}
        assert {mark.values["image"] for mark in rings} == mistakes
    assert len(colours) == len({colour for _, colour in colours}) == len(WITH_IMAGES)
    assert {"old", "new", *WITH_IMAGES} <= set(drawing.texts)


def test_the_confusion_matrix_has_the_counts(pages: Pages) -> None:
    drawing = pages.drawing("confusion")
    for panel, result in zip(drawing.panels(), pages.results.values(), strict=True):
        counts = {
            (mark.values["true class"], mark.values["predicted class"]): int(mark.text)
            for mark in panel.marks("text mark")
        }
        pairs = zip(result.labels.tolist(), result.predicted.tolist(), strict=True)
        expected = Counter((CLASSES[row], CLASSES[column]) for row, column in pairs)
        assert counts == {**dict.fromkeys(zip(CLASSES, CLASSES, strict=True), 0), **expected}
        assert len(panel.marks("rect mark")) == len(counts)


def test_a_share_of_the_confusion_matrix_is_of_all_images_of_the_class(pages: Pages) -> None:
    """Of many classes some columns are left out; a table of an older version has all of them."""

    def shares_of(images: Callable[[dict[str, str]], dict[str, str]]) -> Floats:
        spec = deepcopy(pages.show[TITLES["confusion"]])
        spec["data"]["values"] = [images(row) for row in spec["data"]["values"]]
        marks = draw(spec).marks("rect mark")
        return np.array([float(mark.values["share of the class"]) for mark in marks])

    whole = shares_of(lambda row: row)
    twice = shares_of(lambda row: row | {"class_images": str(2 * int(row["class_images"]))})
    older = shares_of(lambda row: {key: row[key] for key in row.keys() - {"class_images"}})
    assert twice == pytest.approx(whole / 2, abs=2e-3)
    assert older.tolist() == whole.tolist()
    assert 0 < whole.sum() == pytest.approx(len(WITH_IMAGES), abs=1e-2)


def test_the_reliability_plot_has_the_bins(pages: Pages) -> None:
    marks = pages.drawing("reliability").marks("point")
    for revision, result in pages.results.items():
        for name, values in (("as trained", result.as_trained), ("calibrated", result.calibrated)):
            bins = reliability_bins(result, values)
            drawn = [
                mark
                for mark in marks
                if (mark.values["revision"], mark.values["probabilities"]) == (revision, name)
            ]
            points = shares(np.concatenate([mark.points for mark in drawn]))
            expected = np.column_stack([bins.confidence, bins.accuracy])
            assert points == pytest.approx(expected, abs=1e-4)
            assert [int(mark.values["images"]) for mark in drawn] == bins.count.tolist()


@pytest.mark.parametrize("name", TITLES)
def test_a_plot_has_titles_on_both_axes_and_the_legends(pages: Pages, name: str) -> None:
    (values,) = [plot[name] for plot in PLOTS if name in plot]
    for spec in (pages.show[TITLES[name]], pages.diff[TITLES[name]]):
        texts = draw(spec).texts
        assert {values["title"], values.get("x_label", values["x"]), values["y_label"]} <= set(
            texts
        )
        assert not [text for text in texts if "DVC_METRIC" in text or text in {"x", "y", "rev"}]


def test_dvc_plots_show_draws_the_workspace(pages: Pages) -> None:
    def lines(specs: dict[str, dict[str, Any]], revision: str) -> list[list[list[float]]]:
        marks = draw(specs[TITLES["roc"]]).marks("line mark")
        return [mark.points.tolist() for mark in marks if mark.values["revision"] == revision]

    assert lines(pages.show, "workspace") == lines(pages.diff, "new") != []


def test_a_clone_has_the_templates(pages: Pages) -> None:
    tracked = git("ls-files", ".dvc/plots", folder=pages.folder).splitlines()
    templates = {values["template"] for plot in PLOTS for values in plot.values()}
    assert {Path(path).stem for path in tracked} == templates
