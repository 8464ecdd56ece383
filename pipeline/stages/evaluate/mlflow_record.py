"""The test result's record in MLflow."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.core import history
from pipeline.params import Params
from pipeline.stages.evaluate.metrics import ResultFigures
from pipeline.stages.evaluate.report import Report
from pipeline.stages.evaluate.test_set import LoadedModel
from pipeline.tracking import provenance, record
from pipeline.tracking.record import TrainedResult


def record_evaluation(
    params: Params,
    model: LoadedModel,
    figures: ResultFigures,
    report: Report,
    tags: Mapping[str, str],
    *,
    models: Path,
    history_csv: Path,
    split_csv: Path,
    test: Path,
) -> str:
    """Add the result to the run of its training, with the report and the files in `test`.

    Returns:
        A note for the summary if the run lacks something.
    """
    is_recorded = record.record_evaluation(
        TrainedResult(
            params=params.flat(),
            tags=tags,
            files=provenance.read_files(tags[provenance.COMMIT]),
            models=models,
            trained=lambda: model.trained,
            history=history.read(history_csv),
            augmented=history_csv.with_name("augmented.png"),
            split_csv=split_csv,
            metrics=figures.flat(),
            test=test,
            report=report.html(provenance.known_tags(tags)),
        )
    )
    return "" if is_recorded else record.NOT_RECORDED
