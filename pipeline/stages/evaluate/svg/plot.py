"""A plane with axes: points of data to pixels, lines of a grid, labels of ticks."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.stages.evaluate.svg.elements import (
    FONT_SIZE,
    READOUT,
    Size,
    coordinate,
    element,
    line,
    text,
)

SIZE = Size(380.0, 300.0)
LEFT, RIGHT, BOTTOM = 44.0, 14.0, 40.0  # around the plane
INSET = 6.0  # of the plane's ends, so that no mark is cut off
MAX_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """One dimension of the data."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    write: Callable[[float], str]
    """A tick as text."""

    def share(self, value: float) -> float:
        """Where a value is between the ends, in 0..1."""
        return (value - self.low) / (self.high - self.low)


def shares(label: str) -> Axis:
    """An axis of shares, from 0 to 1, labelled in per cent."""
    ticks = [number / 5 for number in range(6)]
    return Axis(label, 0.0, 1.0, ticks, lambda share: f"{100 * share:.0f} %")


def axis_of(label: str, values: Iterable[float], only_whole: bool = False) -> Axis:
    """An axis that holds all values, with round ticks.

    Args:
        only_whole: Whether ticks are whole numbers.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = _round_step((high - low) / MAX_TICKS, only_whole)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return Axis(label, low, high, ticks, lambda value: f"{value + 0.0:.{decimals}f}")


def _round_step(least: float, only_whole: bool) -> float:
    """The smallest of 1, 2, 5, 10, ... and their tenths that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999)
    return max(1.0, step) if only_whole else step


@dataclass(frozen=True)
class Plot:
    """Two axes on a drawing."""

    x: Axis
    y: Axis
    size: Size = SIZE

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point of data."""
        width = self.size.width - LEFT - RIGHT - 2 * INSET
        height = self.size.height - READOUT - BOTTOM - 2 * INSET
        return (
            LEFT + INSET + self.x.share(x) * width,
            READOUT + INSET + (1 - self.y.share(y)) * height,
        )

    @property
    def bottom(self) -> float:
        return self.size.height - BOTTOM

    @property
    def right(self) -> float:
        return self.size.width - RIGHT

    def frame(self) -> Markup:
        """The grid and the labels."""
        parts = []
        for tick in self.y.ticks:
            _, y = self.at(self.x.low, tick)
            parts.append(line(LEFT, y, self.right, y, "grid"))
            parts.append(text(self.y.write(tick), LEFT - 6, y + 4, "tick", "end"))
        for tick in self.x.ticks:
            x, _ = self.at(tick, self.y.low)
            parts.append(line(x, self.bottom, x, self.bottom + 4, "axis"))
            parts.append(text(self.x.write(tick), x, self.bottom + 16, "tick", "middle"))
        parts.append(line(LEFT, self.bottom, self.right, self.bottom, "axis"))
        parts.append(text(self.y.label, 0, FONT_SIZE, "label vertical"))
        middle = (LEFT + self.right) / 2
        parts.append(text(self.x.label, middle, self.size.height - 6, "label", "middle"))
        return Markup("").join(parts)

    def path(self, xs: Iterable[float], ys: Iterable[float], class_: str) -> Markup:
        """A line through points."""
        points = (self.at(x, y) for x, y in zip(xs, ys, strict=True))
        steps = "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
        return element("path", d=f"M{steps}", class_=class_)

    def circle(self, x: float, y: float, radius: float, class_: str) -> Markup:
        cx, cy = self.at(x, y)
        return element("circle", cx=cx, cy=cy, r=float(radius), class_=class_)

    def band(self, left: float, right: float) -> Markup:
        """An invisible area between two values of x, for the pointer."""
        top = READOUT
        x1, x2 = self.at(left, self.y.low)[0], self.at(right, self.y.low)[0]
        return element(
            "rect", x=x1, y=float(top), width=x2 - x1, height=self.bottom - top, class_="hit"
        )
