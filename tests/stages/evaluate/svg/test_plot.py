import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.evaluate.svg.elements import READOUT
from pipeline.stages.evaluate.svg.plot import LEFT, MAX_TICKS, Plot, axis_of, shares

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@settings(derandomize=True, max_examples=100)
@given(VALUES, st.booleans())
def test_an_axis_holds_all_values_and_has_a_few_round_ticks(
    values: list[float], only_whole: bool
) -> None:
    axis = axis_of("x", values, only_whole)
    assert all(0 <= axis.share(value) <= 1 for value in values)
    assert len(axis.ticks) <= MAX_TICKS + 1
    if only_whole:
        assert all(tick == round(tick) for tick in axis.ticks)
    assert len({axis.write(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_ticks_of_losses_and_epochs() -> None:
    loss, epochs = axis_of("loss", [0.0, 0.67]), axis_of("epoch", [0.0, 30.0], only_whole=True)
    assert [loss.write(tick) for tick in loss.ticks] == ["0.0", "0.2", "0.4", "0.6"]
    assert [epochs.write(tick) for tick in epochs.ticks] == ["0", "5", "10", "15", "20", "25", "30"]


@settings(derandomize=True, max_examples=50)
@given(st.floats(0, 1), st.floats(0, 1))
def test_points_are_between_the_readout_and_the_axis(x: float, y: float) -> None:
    plot = Plot(shares("x"), shares("y"))
    left, top = plot.at(x, y)
    assert LEFT < left < plot.right
    assert READOUT < top < plot.bottom


def test_larger_values_are_to_the_right_and_above() -> None:
    plot = Plot(shares("x"), shares("y"))
    (left, low), (right, high) = plot.at(0.2, 0.3), plot.at(0.6, 0.8)
    assert left < right
    assert low > high
    width = plot.at(1, 0)[0] - plot.at(0, 0)[0]
    assert right - left == pytest.approx(0.4 * width)
