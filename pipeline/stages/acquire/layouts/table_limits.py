"""Limits of tables of every format: they are as untrusted as images."""

MAX_COLUMNS = 10_000
MAX_CELL = 65_536  # bytes, of a text
