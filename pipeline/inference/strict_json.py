"""JSON from strangers: no key twice, no NaN, nothing nested too deeply."""

import json
from typing import Any, NoReturn


def parse(data: bytes) -> Any:
    """Parse JSON that must be in UTF-8.

    Raises:
        ValueError: it is not JSON, or an object has a key twice, of which readers differ in which
            they take.
    """
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_to_dict, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def render(value: Any) -> bytes:
    """The one form of a value in which we write it: indented, in the order of its keys."""
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object has a key twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
