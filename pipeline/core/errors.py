"""Errors that users can fix."""

import errno
from collections import Counter

OF_MACHINE = frozenset([errno.ENOMEM, errno.EMFILE, errno.ENFILE])
"""`OSError.errno` for too little memory or too many open files: no problem of the input."""
REPAIR = "`pipeline doctor --repair` moves damaged files away, and `dvc repro` makes them again"
"""How to repair an output that is damaged. Deleting it is no help, since DVC restores it from its
cache, whose copy may be as damaged."""


class PipelineError(Exception):
    """Bad input or a bad environment; the message is one sentence: what, where, what to do.

    `stage.run` and the command line print it without a traceback and exit with 1.
    Any other exception is a bug and keeps its traceback.
    """


def format_counts(reasons: Counter[str]) -> str:
    """Such as "3 gone, 1 robots", the most frequent first; "none" if there are none."""
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "none"
