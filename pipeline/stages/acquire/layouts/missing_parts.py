"""Parts of a data set that are not there, by the names of others: train-00000-of-00002.parquet."""

import re
from collections.abc import Iterable

PART = re.compile(r"(?P<start>.*?)(?P<number>\d+)-of-(?P<total>\d+)(?P<end>.*)")
MAX_NAMED = 3


def describe_missing_parts(names: Iterable[str]) -> list[str]:
    """Say of each data set, or split of one, which parts are missing."""
    numbers: dict[tuple[str, int], set[int]] = {}
    widths: dict[tuple[str, int], int] = {}
    for name in names:
        if match := PART.fullmatch(name):
            key = match["start"], int(match["total"])
            numbers.setdefault(key, set()).add(int(match["number"]))
            widths[key] = len(match["number"])
    return [
        note
        for (start, total), there in sorted(numbers.items())
        if (note := _describe(start, total, there, widths[start, total]))
    ]


def _describe(start: str, total: int, there: set[int], width: int) -> str:
    if total in there:  # counted from 1
        there = {number - 1 for number in there}
    count = total - len(there)
    if count <= 0:
        return ""
    absent = (n for n in range(min(total, len(there) + MAX_NAMED)) if n not in there)
    examples = [f"{start}{n:0{width}}-of-{total:0{width}}" for n in absent][:MAX_NAMED]
    verb = "is" if count == 1 else "are"
    return f"{count} of {total} parts {verb} not there, such as {', '.join(examples)}"
