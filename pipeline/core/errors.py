"""What is meant for people when something goes wrong."""

from collections import Counter


class PipelineError(Exception):
    """Bad input or a bad surrounding, told in one sentence: what, where, and what to do.

    The edges (`stage.run`, the command line) print it without a traceback and exit with 1.
    Anything else that escapes is a bug and keeps its traceback.
    """


def counted(reasons: Counter[str]) -> str:
    """As in "3 gone, 1 robots", the most frequent first; "none" for nothing."""
    return ", ".join(f"{number} {reason}" for reason, number in reasons.most_common()) or "none"
