"""The model of a run, fetched to be promoted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.core.progress import activity
from pipeline.tracking import provenance, registry
from pipeline.tracking.store import MlflowRun


@dataclass(frozen=True)
class Candidate:
    """A run whose model is to be promoted."""

    run: MlflowRun
    model_id: str
    folder: Path
    """Of its model, fetched."""

    @property
    def name(self) -> str:
        """Of the registered model: the data set's."""
        return str(self.run.data.params[provenance.DATASET])

    @property
    def digest(self) -> str:
        """DVC's, of the model folder."""
        return str(self.run.data.tags[provenance.MODELS])

    def read_classes(self) -> Sequence[str]:
        """The classes that its model knows."""
        from pipeline.network import model_folder  # imports torch

        return model_folder.read_card(self.folder).classes


def find_candidate(run: MlflowRun) -> Candidate:
    """The model of a run that is trained and tested, fetched.

    Raises:
        PipelineError: the run lacks something.
    """
    if not {provenance.MODELS, provenance.TEST} <= run.data.tags.keys():
        raise PipelineError(
            f"run {run.info.run_id[:8]} has no test result: `dvc repro` or `dvc exp run` with its "
            "params makes it, `pipeline sync` records it"
        )
    model_id = registry.find_model(run)
    with activity("promote: fetch the model"):
        fetched = registry.fetch_model(model_id, run.data.tags[provenance.MODELS])
    return Candidate(run, model_id, registry.model_folder(fetched))
