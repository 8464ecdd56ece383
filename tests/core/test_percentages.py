import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.percentages import format_fraction, format_interval, format_right, format_share


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        (0.5, 1, "50.0 %"),
        (0.9996, 1, "> 99.9 %"),
        (0.9994, 1, "99.9 %"),
        (1.0, 1, "100.0 %"),
        (0.0004, 1, "< 0.1 %"),
        (0.0006, 1, "0.1 %"),
        (0.0, 1, "0.0 %"),
        (0.996, 0, "> 99 %"),
        (0.004, 0, "< 1 %"),
        (1.0, 0, "100 %"),
    ],
)
def test_a_share(share: float, decimals: int, text: str) -> None:
    assert format_share(share, decimals) == text


@given(st.integers(1, 10**8), st.integers(0, 4), st.data())
def test_only_all_is_100_percent_and_only_nothing_is_0(
    count: int, decimals: int, data: st.DataObject
) -> None:
    share = data.draw(st.integers(0, count)) / count
    text = format_share(share, decimals)
    assert text.startswith("100") == (share == 1)
    assert (not text.strip("<>0. %")) == (share == 0)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.914, 1.0, "91.4 % to 100.0 %"),
        (0.99962, 1.0, "99.96 % to 100.00 %"),
        (0.9511, 0.9512, "95.11 % to 95.12 %"),
        (0.0, 0.0003, "0.00 % to 0.03 %"),
    ],
)
def test_an_interval(low: float, high: float, text: str) -> None:
    assert format_interval(low, high) == text


@given(st.integers(1, 100_000), st.data())
def test_the_ends_of_an_interval_differ(count: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, count - 1))
    first, second = format_interval(low / count, (low + 1) / count).split(" to ")
    assert first != second


def test_few_images_are_counted() -> None:
    assert format_right(1, 1) == "1 of 1"
    assert format_right(9, 9) == "9 of 9"
    assert format_right(9, 10) == "90.0 %"
    assert format_right(1999, 2000) == "> 99.9 %"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "1.0000"),
        (1 - 1e-15, "1.0000"),
        (0.99996, "> 0.9999"),
        (0.5, "0.5000"),
        (1e-5, "< 0.0001"),
        (0.0, "0.0000"),
    ],
)
def test_a_fraction(share: float, text: str) -> None:
    assert format_fraction(share) == text
