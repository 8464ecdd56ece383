"""Names in any script: drawn where a font has them, and one warning where none has."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, fontManager

from pipeline.stages.evaluate import charts, fonts
from pipeline.stages.evaluate.confusions import confusion_matrix
from pipeline.stages.evaluate.photograph_grid import draw_grid
from pipeline.stages.evaluate.photographs import PicturedSample

ANT = "\u8682"


@pytest.fixture(autouse=True)
def forget_fonts() -> Iterator[None]:
    for cached in (fonts._characters, fonts._families):
        cached.cache_clear()
    yield
    for cached in (fonts._characters, fonts._families):
        cached.cache_clear()


@pytest.fixture
def ant_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The family of an installed font that draws an A for a Chinese ant."""
    font = TTFont(fontManager.findfont(FontProperties()))
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap[ord(ANT)] = table.cmap[ord("A")]
    for record in font["name"].names:
        if record.nameID in {1, 4, 16}:
            record.string = "Ant Sans".encode(record.getEncoding())
    font.save(tmp_path / "ant.ttf")
    (tmp_path / "damaged.ttf").write_bytes((tmp_path / "ant.ttf").read_bytes()[:100])
    # Both were installed since matplotlib made its list.
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    paths = [str(tmp_path / name) for name in ("damaged.ttf", "ant.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    return "Ant Sans"


def picture(name: str) -> bytes:
    """A PNG with a class name, drawn as evaluate does."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    with fonts.fonts_for([name]):
        return draw_grid([PicturedSample(pixels, name, name, 0.5)])


def test_an_installed_font_draws_what_the_default_font_lacks(
    ant_font: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with fonts.fonts_for(["bee", ANT]):
        assert mpl.rcParams["font.family"] == ["sans-serif", ant_font]
    assert mpl.rcParams["font.family"] == ["sans-serif"]
    assert picture(ANT) == picture("A")
    assert capfd.readouterr().err == ""


def test_a_character_that_no_font_has_is_reported_once(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings are errors here: matplotlib's own, one for each picture, would fail the test."""
    monkeypatch.setattr(fonts, "_installed", list)
    names = [ANT, "bee \u8681", "cat"]
    for _ in range(3):
        with fonts.fonts_for(names):
            figure = charts.confusion(confusion_matrix(np.arange(3), np.arange(3), names))
            assert charts.png(figure)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: no font on this machine has 蚂蚁 of the class names: boxes ")


@pytest.mark.parametrize("name", ["ants", "Ameisen äöß", "муравьи", "μέλισσα", "نمل", "x\ufe0f"])
def test_names_that_the_default_font_has_need_no_other(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with fonts.fonts_for([name]):
        assert mpl.rcParams["font.family"] == ["sans-serif"]
    assert capfd.readouterr().err == ""


def test_a_damaged_font_is_as_if_it_were_not_there(
    ant_font: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fontManager.addfont(tmp_path / "ant.ttf")
    shutil.copy(tmp_path / "damaged.ttf", tmp_path / "ant.ttf")
    with fonts.fonts_for([ANT]):
        assert ant_font not in mpl.rcParams["font.family"]
    assert "no font on this machine has 蚂" in capfd.readouterr().err
