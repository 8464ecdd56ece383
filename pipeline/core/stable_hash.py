"""Chance that can be asked again: where a key falls does not depend on its company."""

import hashlib


def unit_interval(key: str, seed: int) -> float:
    """Where a key falls in [0, 1): the same wherever and whenever it is asked."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
