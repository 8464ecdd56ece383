"""Counts with their nouns, for messages."""


def plural(number: int, one: str, several: str = "") -> str:
    """Such as "1 file" and "2 files".

    Args:
        one: What follows the number 1.
        several: What follows other numbers; `one` with an s, if not given.
    """
    return f"{number} {one if number == 1 else several or f'{one}s'}"
