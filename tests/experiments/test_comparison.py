"""What is noise is called noise, and what is real is found."""

import csv
from pathlib import Path

import numpy as np
import pytest
from dvc import api
from dvc_data.index import DataIndexDirError
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.experiments.comparison import compare
from pipeline.experiments.predictions import Prediction, parse

HEADER = "id,label,predicted,group,p.bee,p.ant\n"


def said(right: np.ndarray, groups: int = 0) -> dict[str, Prediction]:
    """Of a model that says `bee` where it is right; images come in `groups`, if any."""
    return {
        f"{number:064x}": Prediction(
            "bee",
            "bee" if fine else "ant",
            0.9 if fine else 0.2,
            f"g{number % groups}" if groups else "",
        )
        for number, fine in enumerate(right)
    }


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(0)
    one = random.random(400) < 0.85
    other = one | (random.random(400) < 0.6)
    found = compare(said(one), said(other))
    assert (found.n, found.lost, found.apart) == (400, 0, 0)
    assert found.difference == pytest.approx((other.sum() - one.sum()) / 400)
    assert found.interval.low <= found.difference <= found.interval.high
    assert found.verdict("main", "tidy-owl").startswith("tidy-owl is better than main: ")
    assert compare(said(other), said(one)).verdict("a", "b").startswith("a is better than b: ")
    assert found.loss[1] < found.loss[0]
    assert found.loss_interval.high < 0


def test_noise_is_called_a_difference_less_often_than_five_times_of_a_hundred() -> None:
    random = np.random.default_rng(0)
    shown = 0
    for _ in range(200):
        one, other = random.random((2, 150)) < 0.9
        shown += "is better" in compare(said(one), said(other)).verdict("a", "b")
    assert shown <= 10


def test_images_of_one_group_count_as_one() -> None:
    """Twelve more right answers on one owner's photographs are not twelve."""
    one = np.arange(120) % 4 != 0
    other = one | (np.arange(120) % 10 == 0)
    assert "is better" in compare(said(one), said(other)).verdict("a", "b")
    assert "No difference" in compare(said(one, 10), said(other, 10)).verdict("a", "b")


def test_the_same_model_is_the_same() -> None:
    one = said(np.arange(30) % 3 == 0)
    found = compare(one, one)
    assert (found.p, found.difference, found.differences) == (1.0, 0.0, [])
    assert found.verdict("a", "b").startswith("No difference shown between a and b: ")


def test_only_images_of_both_count() -> None:
    one, other = said(np.ones(10, bool)), said(np.ones(14, bool))
    assert (compare(one, other).n, compare(one, other).apart) == (10, 4)


def test_other_images_and_other_labels_are_refused() -> None:
    one = said(np.ones(3, bool))
    with pytest.raises(PipelineError, match="different images: evaluate both"):
        compare(one, {"0": Prediction("bee", "bee", 1.0, "")})
    renamed = {key: Prediction("ant", "ant", 1.0, "") for key in one}
    with pytest.raises(PipelineError, match="3 of the images have another label"):
        compare(one, renamed)


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n1,bee\n",
        HEADER + "1,bee,bee,,x,0.1\n",
        HEADER + "1,cat,cat,,0.9,0.1\n",
        HEADER + "1,bee,bee,,nan,nan\n",
        "<html>",
    ],
)
def test_damaged_predictions_are_one_sentence(text: str) -> None:
    if text == "<html>":
        assert parse(text, "a") == {}
        return
    with pytest.raises(PipelineError, match="of a is damaged"):
        parse(text, "a")


def test_folders_on_the_command_line(world: Path) -> None:
    for name, answers in (("a", "bbab"), ("b", "bbbb")):
        (world / name).mkdir()
        rows = [
            f"{n:064x},bee,{'bee' if answer == 'b' else 'ant'},,0.7,0.3\n"
            for n, answer in enumerate(answers)
        ]
        (world / name / "predictions.csv").write_text(HEADER + "".join(rows))
    done = CliRunner().invoke(app, ["compare", "a", "b", "--csv", "differ.csv"])
    assert done.exit_code == 0, done.output
    assert "No difference shown between a and b: b has +25.0 points" in " ".join(
        done.output.split()
    )
    with Path("differ.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"id": f"{2:064x}", "label": "bee", "A": "ant", "B": "bee"}


@pytest.mark.parametrize("name", ["nowhere", "0" * 32])
def test_what_is_not_there_is_one_sentence(world: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["compare", name, name])
    assert isinstance(done.exception, PipelineError)
    assert "\n" not in str(done.exception)


def test_bytes_that_are_no_text_are_damage(world: Path) -> None:
    (world / "a").mkdir()
    (world / "a/predictions.csv").write_bytes(HEADER.encode() + b"1,\xff\xfe,bee,,0.9,0.1\n")
    done = CliRunner().invoke(app, ["compare", "a", "a"])
    assert isinstance(done.exception, PipelineError)
    assert "of a is damaged" in str(done.exception)


def test_an_evaluation_that_the_cache_lacks_is_one_sentence(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: str, rev: str) -> str:
        raise DataIndexDirError("failed to load directory ('reports', 'test')")

    monkeypatch.setattr(api, "read", read)
    done = CliRunner().invoke(app, ["compare", "main", "models"])
    assert "whose evaluation is in DVC's cache" in str(done.exception)
