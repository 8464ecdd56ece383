"""The test result's record in MLflow."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.core import history
from pipeline.params import Params
from pipeline.stages.evaluate.metrics import ResultFigures
from pipeline.tracking import provenance
from pipeline.tracking.recorder import NOT_RECORDED, Recorder
from pipeline.tracking.result import TrainedResult, load_trained_part


def record_evaluation(
    recorder: Recorder,
    params: Params,
    figures: ResultFigures,
    report: str,
    tags: Mapping[str, str],
    *,
    models: Path,
    history_csv: Path,
    split_csv: Path,
    test: Path,
) -> str:
    """Add the result to the run of its training, with the report's HTML and the files in `test`.

    Returns:
        A note for the summary if the run lacks something.
    """
    is_recorded = recorder.record_evaluation(
        TrainedResult(
            params=params.flat(),
            tags=tags,
            files=provenance.read_files(tags[provenance.COMMIT]),
            models=models,
            trained=partial(load_trained_part, models),
            history=history.read(history_csv),
            augmented=history_csv.with_name("augmented.png"),
            split_csv=split_csv,
            metrics=figures.flat(),
            test=test,
            report=report,
        )
    )
    return "" if is_recorded else NOT_RECORDED
