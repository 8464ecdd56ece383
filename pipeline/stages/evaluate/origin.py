"""What MLflow's copy of the report says beyond DVC's: the commit, its date, and its own model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.git import try_git
from pipeline.stages.evaluate.former_model import judge_against_former, read_former
from pipeline.stages.evaluate.intervals import Groups
from pipeline.stages.evaluate.test_set import TestSetResult
from pipeline.stages.evaluate.verdict import Verdict
from pipeline.tracking import provenance


@dataclass(frozen=True)
class ReportOrigin:
    """What DVC's copy of the page may not depend on."""

    commit: str = ""
    date: str = ""
    """Of the commit, as 2024-12-31."""
    is_changed: bool = False
    """Whether the code differs from the commit."""
    experiment: str = ""
    """DVC's name of it."""
    former: Verdict | None = None
    """Against the model of the commit."""


UNKNOWN = ReportOrigin()


def read_origin(
    tags: Mapping[str, str], result: TestSetResult, groups: Groups, test: Path
) -> ReportOrigin:
    """The origin of a result that is in the folder `test`.

    Args:
        tags: Of its run.
    """
    commit = tags[provenance.COMMIT]
    if not commit:
        return UNKNOWN
    former = read_former(commit, test)
    return ReportOrigin(
        commit,
        (try_git("show", "--no-patch", "--format=%cs", commit) or "").strip(),
        tags.get(provenance.CHANGED, "no") != "no",
        tags[provenance.EXPERIMENT],
        judge_against_former(former, commit, result, groups) if former else None,
    )
