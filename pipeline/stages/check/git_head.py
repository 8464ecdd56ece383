"""git's HEAD: `dvc exp run` detaches it while it runs, and a kill leaves it there."""

import os
import re
from itertools import dropwhile

from pipeline.core.git import commit_of, try_git

DETACHED = re.compile(r"checkout: moving from (\S+) to [0-9a-f]{40}")
COMMIT = re.compile("[0-9a-f]{40}")
DURING_EXPERIMENT = "refs/exps/exec/EXEC_HEAD"


def abandoned_branch() -> str:
    """The branch that a killed `dvc exp run` started from, if HEAD is detached at or after it.

    During an experiment HEAD is always detached, so there it counts only if it was detached before
    the experiment started. The temporary copy of `dvc exp run --temp` has no branches.

    Returns:
        "" if HEAD is on a branch, or was detached on purpose.
    """
    if try_git("symbolic-ref", "--quiet", "HEAD") is not None or not commit_of(DURING_EXPERIMENT):
        return ""
    starts = _starts()
    if os.environ.get("DVC_EXP_NAME") and not (starts and COMMIT.fullmatch(starts[0])):
        return ""
    branch = next(dropwhile(COMMIT.fullmatch, starts), "")
    if not branch or not commit_of(f"refs/heads/{branch}"):
        return ""
    is_behind = try_git("merge-base", "--is-ancestor", branch, "HEAD") is not None
    return branch if is_behind else ""


def _starts() -> list[str]:
    """The branch or commit that HEAD left, each time it was detached; the latest first."""
    lines = (try_git("reflog", "--format=%gs") or "").splitlines()
    return [match[1] for match in map(DETACHED.fullmatch, lines) if match]
