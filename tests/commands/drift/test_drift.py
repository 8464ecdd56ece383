import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split
from pipeline.images import mapping
from pipeline.stages.evaluate.metrics import Figures
from tests.builders.images import encode_png, grey_png, noise_png
from tests.html_page import Page

pytestmark = pytest.mark.usefixtures("figures")


def stripes(seed: int, is_striped: bool) -> bytes:
    """An image as those of the data set are drawn."""
    random = np.random.default_rng(1000 + seed)
    bars = 127 + 100 * (np.arange(48) // (4 if is_striped else 1000) % 2)
    noisy = bars[None, :, None] + random.normal(0, 20, (40, 48, 3))
    return encode_png(np.clip(noisy, 0, 255).astype(np.uint8))


@pytest.fixture
def new(world: Path) -> Path:
    """A folder of images that are like those of the data set."""
    folder = world / "new"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(stripes(number, bool(number % 2)))
    return folder


def drift(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["drift", *arguments])
    assert not isinstance(result.exception, PipelineError), result.exception
    return result.exit_code, result.output


def test_images_like_those_of_the_data_set_show_no_difference(new: Path) -> None:
    code, output = drift(str(new))
    assert code == 0, output
    assert "No difference between the 6 new images and the training images is shown" in output
    assert "Estimated accuracy on the new images: " in output
    page = Page(Path("reports/drift.html").read_text())
    assert any("No difference between" in text for text in page.text_of.values())
    rows = page.tables["By class"]
    assert {row[0] for row in rows[1:]} <= {"plain", "striped"}
    assert sum(int(row[1]) for row in rows[1:]) == 6


def test_what_was_computed_once_is_remembered(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    missing = mapping._count_missing

    def count(plans):  # type: ignore[no-untyped-def]
        computed.append(missing(plans))
        return computed[-1]

    monkeypatch.setattr(mapping, "_count_missing", count)
    assert drift(str(new))[0] == 0
    assert max(computed) == 6
    computed.clear()
    (new / "more.png").write_bytes(stripes(99, True))
    first = Path("reports/drift.html").read_bytes()
    assert drift(str(new))[0] == 0
    assert max(computed) == 1
    (new / "more.png").unlink()
    drift(str(new))
    assert Path("reports/drift.html").read_bytes() == first


def test_other_images_are_far_and_exit_with_3(world: Path) -> None:
    folder = world / "new"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.png").write_bytes(noise_png(number))
    code, output = drift(str(folder), "--page", "elsewhere.html")
    assert code == 3, output
    assert "The 8 new images differ from the training images" in output
    assert "With so many far images this is probably too high" in output
    page = Page(Path("elsewhere.html").read_text())
    assert len([figure for figure in page.figures if figure.picture]) == 8


def test_known_repeated_and_unreadable_images_are_left_out(new: Path) -> None:
    known = next(iter(read_split(Path("data/split.csv")))).id
    raw = shards.columns(Path("data/raw"), ["id", "bytes"]).to_pydict()
    (new / "known.png").write_bytes(raw["bytes"][raw["id"].index(known)])
    shutil.copy(new / "0.png", new / "again.png")
    (new / "text.jpg").write_text("no image")
    (new / "empty.png").write_bytes(grey_png(7)[:50])
    code, output = drift(str(new), str(new / "absent.png"))
    assert code == 0
    assert "the 6 new images" in output
    for reason in (
        "1 in the data set",
        "1 given twice",
        "1 not_an_image",
        "1 damaged",
        "1 No such",
    ):
        assert reason in output


def test_no_new_images_are_an_error(world: Path) -> None:
    (world / "text.jpg").write_text("no image")
    for name, reason in (("text.jpg", "1 not_an_image"), ("gone.jpg", "1 No such file")):
        result = CliRunner().invoke(app, ["drift", name])
        assert isinstance(result.exception, PipelineError)
        assert f"there are no new images to compare ({reason}" in str(result.exception)


def test_without_features_or_model_the_command_fails(new: Path, figures: Figures) -> None:
    shutil.rmtree("models")
    result = CliRunner().invoke(app, ["drift", str(new)])
    assert isinstance(result.exception, PipelineError)
    assert "no model in models" in str(result.exception)
    shutil.rmtree("data/features")
    result = CliRunner().invoke(app, ["drift", str(new)])
    assert "there are no features in data/features" in str(result.exception)
