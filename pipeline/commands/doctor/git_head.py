"""git's HEAD: `dvc exp run` detaches it while it runs, and a kill leaves it there."""

from collections.abc import Iterator

from pipeline.commands.doctor.finding import Finding
from pipeline.stages.check.git_head import abandoned_branch


def examine() -> Iterator[Finding]:
    """A HEAD on no branch, at a commit that follows the branch on which an experiment began."""
    if branch := abandoned_branch():
        yield Finding(
            "git's HEAD is on no branch, as a killed `dvc exp run` leaves it, so commits would "
            "be on none",
            f"`git switch -C {branch}` returns to {branch} with all that has changed since",
        )
