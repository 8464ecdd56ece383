"""Progress bars, for everything that may take more than two seconds."""

from typing import Any

from tqdm import tqdm

from pipeline.core.terminal import printable


def bar(title: str, total: int | None, unit: str = "img", scale: bool = False) -> "tqdm[Any]":
    """A bar with rate and time left, drawn on a terminal only, and only after two seconds.

    Args:
        total: Number of units, or None where it is unknown.
        scale: Whether to print units as k, M, G (for bytes).
    """
    return tqdm(
        desc=printable(title),
        total=total,
        unit=unit,
        unit_scale=scale,
        delay=2,
        disable=None,
        leave=False,
    )


def add_to_total(progress: "tqdm[Any]", units: int) -> None:
    """Add to the number of units of a bar."""
    progress.total = (progress.total or 0) + units
