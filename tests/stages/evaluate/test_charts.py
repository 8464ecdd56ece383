from pathlib import Path

import cv2
import numpy as np

from pipeline.stages.evaluate import charts
from pipeline.stages.evaluate.charts import PicturedSample

HISTORY = [
    {"epoch": 1, "train_loss": 0.9, "train_accuracy": 0.5, "val_loss": 0.8, "val_accuracy": 0.6},
    {"epoch": 2, "train_loss": 0.4, "train_accuracy": 0.8, "val_loss": 0.5, "val_accuracy": 0.7},
]


def test_a_picture_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("first.png", "second.png"):
        charts.save(charts.curves(HISTORY), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_samples_are_green_when_right_and_red_when_wrong(tmp_path: Path) -> None:
    white = np.full((8, 8, 3), 255, np.uint8)
    grid = charts.samples(
        [PicturedSample(white, "car", "car", 0.9), PicturedSample(white, "car", "bike", 0.6)]
    )
    titles = [axes.title for axes in grid.axes[:2]]
    assert [title.get_color() for title in titles] == [charts.RIGHT, charts.WRONG]
    assert titles[1].get_text() == "car (bike)\n60%"
    charts.save(grid, tmp_path / "samples.png")
    assert cv2.imread(str(tmp_path / "samples.png")) is not None


def test_the_confusion_matrix_shows_every_count() -> None:
    figure = charts.confusion(np.array([[5, 1], [0, 7]]), ["ant", "bee"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["5", "1", "0", "7"]


def test_the_curves_mark_the_best_epoch() -> None:
    legend = charts.curves(HISTORY).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][-1] == "best: epoch 2"


def test_the_size_is_limited_and_names_are_not_formulas(tmp_path: Path) -> None:
    figure = charts.confusion(np.eye(300, dtype=np.int64), [f"a$_$b{n}" for n in range(300)])
    assert max(figure.get_size_inches()) <= charts.MAX_INCHES + 1
    charts.save(figure, tmp_path / "confusion.png")
