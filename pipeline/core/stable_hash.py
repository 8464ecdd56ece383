"""Repeatable randomness: depends on key and seed alone."""

import hashlib


def unit_interval(key: str, seed: int) -> float:
    """A number in [0, 1), uniform over keys and the same in every run on every machine."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
