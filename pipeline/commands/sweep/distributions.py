"""The values that a param may have in a sweep, as Optuna's distributions."""

import math

from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

DIGITS = 4  # of a sampled number: more would make the command longer, and the model no better
EDGE = 0.05  # share of an interval, at each end

TrialValue = str | int | float | bool | None


def range_distribution(value: RangeSweep, log: bool) -> BaseDistribution:
    """A range without its end, as in Python.

    Raises:
        ValueError: it is empty, or logarithmic.
    """
    assert value.start is not None
    assert value.stop is not None
    if log:
        raise ValueError("a range cannot be logarithmic: use tag(log,interval(...))")
    count = sum(1 for _ in value.range())
    if not count:
        raise ValueError("the range is empty")
    step = abs(value.step)
    low, high = sorted([value.start, value.start + (count - 1) * value.step])
    if isinstance(low, int) and isinstance(step, int):
        return IntDistribution(low, int(high), step=step)
    return FloatDistribution(low, high, step=step)


def interval_distribution(value: IntervalSweep, log: bool, is_whole: bool) -> BaseDistribution:
    """An interval with both ends.

    Args:
        is_whole: Whether the param is a whole number.

    Raises:
        ValueError: the ends are in no order, or do not fit the param.
    """
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if low >= high:
        raise ValueError(f"the interval should start below its end, but {low} >= {high}")
    if log and low <= 0:
        raise ValueError(f"a logarithmic interval starts above 0, not at {low}")
    if isinstance(low, int) and isinstance(high, int):  # int(interval(...))
        is_whole = True
    if not is_whole:
        return FloatDistribution(low, high, log=log)
    if int(low) != low or int(high) != high:
        raise ValueError("the param is a whole number, so both ends should be whole numbers")
    return IntDistribution(int(low), int(high), log=log)


def is_at_edge(distribution: BaseDistribution, value: TrialValue) -> bool:
    """Whether a number is close to an end of its interval."""
    if isinstance(distribution, CategoricalDistribution):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    assert isinstance(value, int | float)
    ends = [distribution.low, value, distribution.high]
    low, middle, high = (math.log(end) for end in ends) if distribution.log else ends
    return low < high and min(middle - low, high - middle) <= EDGE * (high - low)


def round_value(distribution: BaseDistribution, value: TrialValue) -> TrialValue:
    """Round a float to `DIGITS`, within its interval."""
    if not isinstance(distribution, FloatDistribution) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)


def contains(distribution: BaseDistribution, value: TrialValue) -> bool:
    """Whether the sampler can give this value."""
    if isinstance(distribution, CategoricalDistribution):
        return any(
            value == choice and type(value) is type(choice) for choice in distribution.choices
        )
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    return distribution.step is None or abs(steps - round(steps)) < 1e-8


def probe_values(distribution: BaseDistribution) -> list[TrialValue]:
    """Every choice, or both ends."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
