import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from pipeline.network.bounded_minimum import minimise

numbers = st.floats(-5, 5, allow_subnormal=False)


@given(st.lists(numbers, min_size=3, max_size=3), numbers, st.floats(0.1, 8))
def test_it_has_the_bits_of_scipy(factors: list[float], lower: float, width: float) -> None:
    """Of functions with one minimum, with several, and with none between the bounds."""

    def function(x: float) -> float:
        return float(factors[0] * np.sin(3 * x) + factors[1] * x**2 + factors[2] * x)

    bounds = (lower, lower + width)
    expected = minimize_scalar(function, bounds=bounds, method="bounded").x
    assert minimise(function, *bounds) == expected


@pytest.mark.parametrize(
    "function", [abs, lambda _: 1.0, lambda x: math.floor(4 * x) / 4], ids=["kink", "flat", "steps"]
)
def test_it_has_the_bits_of_scipy_without_derivatives(function: object) -> None:
    expected = minimize_scalar(function, bounds=(-2.0, 3.0), method="bounded").x
    assert minimise(function, -2.0, 3.0) == expected  # type: ignore[arg-type]


def test_it_is_near_the_minimum() -> None:
    assert minimise(lambda x: (x - 1.25) ** 2, -2, 3) == pytest.approx(1.25, abs=1e-5)
