"""Fonts for names in scripts that matplotlib's own font lacks, such as Chinese."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, fontManager

from pipeline.core.terminal import printable, warn

MAX_LISTED = 10  # characters in the warning
VARIATION_SELECTORS = range(0xFE00, 0xFE10)  # invisible: they choose between forms of a character


@contextmanager
def fonts_for(names: Iterable[str]) -> Iterator[None]:
    """Within the block, draw text in fonts of this machine that have the characters of `names`.

    Figures must be made and saved within it. Prints one warning per process if some characters are
    in no font.
    """
    # findfont logs that a family has no regular weight, for example.
    logging.getLogger(font_manager.__name__).setLevel(logging.ERROR)
    families = _families("".join(dict.fromkeys(printable("".join(names)))))
    with mpl.rc_context({"font.family": ["sans-serif", *families]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # one warning, above
        yield


@cache
def _families(characters: str) -> Sequence[str]:
    """Families that have characters which the default font lacks; warns of those that none has."""
    families, missing = _choose_families(set(map(ord, characters)) - set(VARIATION_SELECTORS))
    if missing:
        lacking = [character for character in characters if ord(character) in missing]
        warn(
            f"no font on this machine has {''.join(lacking[:MAX_LISTED])}"
            f"{' and other characters' if len(lacking) > MAX_LISTED else ''} of the class names: "
            "boxes stand for them in PNG pictures (report.html is not affected). Install a font "
            "that has them: Noto has one for every script"
        )
    return families


def _choose_families(characters: set[int]) -> tuple[list[str], set[int]]:
    """Families that have characters which the default font lacks, and those that none has."""
    missing = characters - _characters(None)
    families: list[str] = []
    if missing:
        _list_new_fonts()
    while missing:
        gained = {name: len(missing & _characters(name)) for name in _installed()}
        best = max(gained, key=lambda name: gained[name], default="")  # the first of equals
        if not gained.get(best):
            break
        families.append(best)
        missing -= _characters(best)
    return families, missing


def _list_new_fonts() -> None:
    """Add fonts that were installed since matplotlib listed them, which it does only once."""
    paths = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - paths):
        with suppress(OSError, RuntimeError):  # damaged, or made of pictures
            fontManager.addfont(path)


def _installed() -> list[str]:
    """Families of this machine in order, without the symbols and boxes that matplotlib brings.

    The list is matplotlib's, which keeps it in a file.
    """
    own = mpl.get_data_path()
    return sorted({entry.name for entry in fontManager.ttflist if not entry.fname.startswith(own)})


@cache
def _characters(family: str | None) -> frozenset[int]:
    """Code points of the font that matplotlib takes for a family; None is the default."""
    path = fontManager.findfont(FontProperties(family=[family] if family else None))
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a damaged font, in the words of FreeType
        return frozenset()
