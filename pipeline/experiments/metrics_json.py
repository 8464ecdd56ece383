"""metrics.json: figures by name. A file may come from another version, or from anybody."""

import json
import math


def parse(text: str) -> dict[str, float | None]:
    """The figures of a file: finite numbers, or None where one is not defined.

    Other values are left out. JSON has no NaN, but Python's reader accepts it.

    Raises:
        ValueError: it is not an object in JSON.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it is not an object of figures")
    return {name: value for name, value in values.items() if value is None or _is_finite(value)}


def _is_finite(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer past every float
        return False
