"""The progress bar of everything that may take more than two seconds."""

from typing import Any

from tqdm import tqdm


def bar(title: str, total: int | None, unit: str = "img", scale: bool = False) -> "tqdm[Any]":
    """A bar with rate and time left, shown on a terminal only, and only after two seconds.

    Args:
        total: How many units there are, or None where nobody knows.
        scale: Whether to print units as k, M, G (for bytes).
    """
    return tqdm(
        desc=title, total=total, unit=unit, unit_scale=scale, delay=2, disable=None, leave=False
    )


def expect(shown: "tqdm[Any]", more: int) -> None:
    """Let a bar know of further units."""
    shown.total = (shown.total or 0) + more
