"""The one exception that is meant for people."""


class PipelineError(Exception):
    """Bad input or a bad surrounding, told in one sentence: what, where, and what to do.

    The edges (`stage.run`, the command line) print it without a traceback and exit with 1.
    Anything else that escapes is a bug and keeps its traceback.
    """
