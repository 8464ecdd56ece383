from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.terminal import printable
from pipeline.stages.evaluate.svg import elements
from pipeline.stages.evaluate.svg.elements import MAX_NAME_LENGTH, Size, coordinate, mark, text


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (-0.04, "0"), (1.0, "1"), (12.34, "12.3"), (-3.06, "-3.1"), (100.0, "100")],
)
def test_a_coordinate_has_one_decimal_at_most(value: float, written: str) -> None:
    assert coordinate(value) == written


@settings(derandomize=True, max_examples=100)
@given(st.text(min_size=1))
def test_any_name_is_text_and_nothing_else(name: str) -> None:
    drawing = Size(10, 10).svg(mark(text(name, 1, 2), f"1 of {name}"))
    root = ElementTree.fromstring(drawing)
    assert [element.tag for element in root.iter()] == ["svg", "g", "text", "text"]
    assert [element.text for element in root.iter("text")] == [
        printable(name) or None,
        printable(f"1 of {name}"),
    ]


def test_attributes_are_escaped() -> None:
    hostile = '"><script>'
    root = ElementTree.fromstring(elements.element("b", x=hostile))
    assert root.attrib == {"x": hostile}


@settings(derandomize=True, max_examples=50)
@given(st.text(min_size=1))
def test_a_short_name_is_whole_and_a_long_one_keeps_its_ends(name: str) -> None:
    whole, short = printable(name), elements.shorten(name)
    assert len(short) <= MAX_NAME_LENGTH
    assert short == whole or (short[0], short[-1]) == (whole[0], whole[-1])


def test_wide_characters_take_more_room() -> None:
    assert elements.width_of("蚂蚁") > elements.width_of("ab")
    assert elements.width_of("") == 0
