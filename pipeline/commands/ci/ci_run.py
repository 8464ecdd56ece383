"""Inputs and results of a run of `pipeline ci`."""

from dataclasses import dataclass
from typing import Any

from pipeline.commands.ci import dvc_steps
from pipeline.commands.ci.overrides import Overrides
from pipeline.commands.ci.revisions import Revision
from pipeline.core.errors import PipelineError
from pipeline.experiments.dvc import errors_as_sentences

SPLIT = "data/split.csv"


@dataclass(frozen=True)
class Reference:
    """The revision to compare with."""

    revision: Revision | None
    problem: str = ""
    """Why there is none."""

    @property
    def title(self) -> str:
        return self.revision.title if self.revision else "-"

    def read_metrics(self) -> dict[str, Any]:
        """Raises PipelineError if there are none."""
        return self._require().metrics()

    def read_params(self) -> dict[str, object]:
        """Raises PipelineError if there are none."""
        return self._require().params()

    def read_split(self) -> str:
        """The text of split.csv, from DVC's cache or remote; raises PipelineError if not there."""
        from dvc import api  # slow

        revision = self._require()
        with errors_as_sentences(
            f"no {SPLIT} of {revision.title}", "run `dvc pull`, or compare with another revision"
        ):
            return str(api.read(SPLIT, rev=revision.commit))

    def _require(self) -> Revision:
        if self.revision is None:
            raise PipelineError(self.problem)
        return self.revision


@dataclass(frozen=True)
class Sharing:
    """What was exchanged with the DVC remote."""

    remote: str | None
    is_pulled: bool
    is_pushed: bool

    def describe(self) -> str:
        """In one sentence."""
        if self.remote is None:
            return "no DVC remote: nothing is pulled or pushed"
        pulled = "pulled from" if self.is_pulled else "nothing pulled from"
        pushed = "pushed to it" if self.is_pushed else "nothing pushed to it"
        return f"{pulled} {self.remote}, {pushed}"


@dataclass(frozen=True)
class CiRun:
    """Inputs and results of a run."""

    overrides: Overrides
    head: Revision
    changed_files: list[str]
    """That differ from the commit."""
    stages: dvc_steps.StageOutcomes
    sharing: Sharing
    reference: Reference
    params: dict[str, object]
    """By dotted name."""
    metrics: dict[str, Any]
    """Of metrics.json."""
    artifact: str | None
    """The name under which the CI server keeps reports/."""
