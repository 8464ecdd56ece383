"""The minimum of a function of one variable between two bounds.

`scipy.optimize.minimize_scalar(method="bounded")` returns the same bits, but its import takes as
long as a third of torch's.
"""

import math
from collections.abc import Callable

MAX_CALLS = 500
PRECISION = math.sqrt(2.2e-16)  # relative; steps below it change nothing in a sum
GOLDEN = 0.5 * (3.0 - math.sqrt(5.0))


def minimise(
    function: Callable[[float], float], lower: float, upper: float, tolerance: float = 1e-5
) -> float:
    """Where `function` has a local minimum, within `tolerance`.

    Source: R. P. Brent, "Algorithms for minimization without derivatives" (1973), chapter 5; in the
    form of scipy 1.17 (BSD licence).
    """
    best = second = third = lower + GOLDEN * (upper - lower)
    at_best = at_second = at_third = function(best)
    step = step_before = 0.0
    for _ in range(MAX_CALLS - 1):
        middle = 0.5 * (lower + upper)
        smallest = PRECISION * abs(best) + tolerance / 3.0
        if abs(best - middle) <= 2 * smallest - 0.5 * (upper - lower):
            break
        parabola = None
        if abs(step_before) > smallest:
            points = ((best, at_best), (second, at_second), (third, at_third))
            parabola = _to_minimum_of_parabola(points, step_before, lower, upper)
            step_before = step
        if parabola is None:
            step_before = (lower if best >= middle else upper) - best
            step = GOLDEN * step_before
        else:
            step = parabola
            place = best + step
            if place - lower < 2 * smallest or upper - place < 2 * smallest:
                step = math.copysign(smallest, middle - best)
        place = best + math.copysign(max(abs(step), smallest), step)
        value = function(place)
        if value <= at_best:
            lower, upper = (best, upper) if place >= best else (lower, best)
            third, at_third, second, at_second = second, at_second, best, at_best
            best, at_best = place, value
        else:
            lower, upper = (place, upper) if place < best else (lower, place)
            if value <= at_second or second == best:
                third, at_third, second, at_second = second, at_second, place, value
            elif value <= at_third or third in (best, second):
                third, at_third = place, value
    return best


def _to_minimum_of_parabola(
    points: tuple[tuple[float, float], ...], step_before: float, lower: float, upper: float
) -> float | None:
    """The step from the first of three points to the minimum of the parabola through them.

    None if it leaves the bounds, or is not shorter than half of the step before the last.
    """
    (best, at_best), (second, at_second), (third, at_third) = points
    r = (best - second) * (at_best - at_third)
    q = (best - third) * (at_best - at_second)
    p = (best - third) * q - (best - second) * r
    q = 2.0 * (q - r)
    p = -p if q > 0.0 else p
    q = abs(q)
    is_shorter = abs(p) < abs(0.5 * q * step_before)
    return (p + 0.0) / q if is_shorter and q * (lower - best) < p < q * (upper - best) else None
