"""git's HEAD: `dvc exp run` detaches it while it runs, and a kill leaves it there."""

import re
from collections.abc import Iterator

from pipeline.commands.doctor.finding import Finding
from pipeline.core.git import commit_of, try_git

DETACHED = re.compile(r"checkout: moving from (\S+) to [0-9a-f]{40}")
DURING_EXPERIMENT = "refs/exps/exec/EXEC_HEAD"


def examine() -> Iterator[Finding]:
    """A HEAD on no branch, at a commit that follows the branch on which an experiment began."""
    if try_git("symbolic-ref", "--quiet", "HEAD") is None and commit_of(DURING_EXPERIMENT):
        branch = _last_branch()
        if branch and try_git("merge-base", "--is-ancestor", branch, "HEAD") is not None:
            yield Finding(
                "git's HEAD is on no branch, as a killed `dvc exp run` leaves it, so commits would "
                "be on none",
                f"`git switch -C {branch}` returns to {branch} with all that has changed since",
            )


def _last_branch() -> str:
    """The branch from which HEAD was detached last; "" if it is gone, or the reflog is."""
    for line in (try_git("reflog", "--format=%gs") or "").splitlines():
        if match := DETACHED.fullmatch(line):
            return match[1] if commit_of(f"refs/heads/{match[1]}") else ""
    return ""
