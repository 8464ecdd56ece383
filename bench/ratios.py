"""Print the rates of several loops that were measured in turn."""

import statistics
from collections.abc import Mapping, Sequence


def show(rates: Mapping[str, Sequence[float]], ours: str, others: Sequence[str]) -> None:
    """Print the median and spread of each loop's images/s, and of the ratios pair by pair."""
    for name, values in rates.items():
        spread = f"{min(values):.0f}-{max(values):.0f}, n={len(values)}"
        print(f"{name:>10}: {statistics.median(values):6.0f} images/s ({spread})")
    for name in others:
        pairs = [mine / theirs for mine, theirs in zip(rates[ours], rates[name], strict=True)]
        spread = f"{min(pairs):.2f}-{max(pairs):.2f}"
        print(f"{ours} / {name}: {statistics.median(pairs):.2f} ({spread})")
