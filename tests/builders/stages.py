"""Run stages as dvc.yaml does, but in this process and the working directory."""

import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import history
from pipeline.network import model_folder
from pipeline.params import Params
from pipeline.stages.evaluate.drawing import draw_curves
from pipeline.stages.evaluate.evaluation import evaluate
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs, EvaluationOutputs
from pipeline.stages.evaluate.metrics import Figures
from pipeline.stages.train import __main__ as train
from pipeline.tracking import store  # noqa: F401 # a process that has imported mlflow records itself
from pipeline.tracking.recorder import Recorder
from tests.builders.models import train_job
from tests.builders.params import NARROW_RESNET, override

CLEAN, SPLIT, FEATURES = Path("data/clean"), Path("data/split.csv"), Path("data/features")
MODELS, HISTORY, AUGMENTED = Path("models"), Path("reports/history.csv"), Path("augmented.png")
METRICS, TEST, REPORT = (
    Path("reports/metrics.json"),
    Path("reports/test"),
    Path("reports/report.html"),
)


def write_params(params: Params) -> None:
    YAML(typ="safe", pure=True).dump(params.model_dump(), Path("params.yaml"))


def train_stage() -> None:
    Path("reports").mkdir(exist_ok=True)
    train.main(CLEAN, SPLIT, FEATURES, MODELS, HISTORY, AUGMENTED)


class SameProcess(Executor):
    """Calls functions at once, in this process."""

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **options: Any
    ) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


def evaluate_stage() -> Figures:
    """Run evaluate without its drawing process."""
    drawing = SameProcess()
    curves = drawing.submit(draw_curves, history.read(HISTORY))
    inputs = EvaluationInputs(MODELS, FEATURES, CLEAN, SPLIT, HISTORY)
    with Recorder() as recorder:
        evaluate(recorder, drawing, curves, inputs, EvaluationOutputs(METRICS, TEST, REPORT))
    figures: Figures = json.loads(METRICS.read_text())
    return figures


def read_evaluation() -> dict[str, bytes]:
    """The bytes of all that stage evaluate writes, by file name."""
    files = [METRICS, REPORT, *sorted(TEST.iterdir())]
    return {path.name: path.read_bytes() for path in files}


def train_whole_network(dataset: Path, params: Params) -> None:
    """Write a small model of which nothing is frozen, so that no features of it are stored."""
    whole = override(params, **NARROW_RESNET, model__trainable="all", train__epochs=1)
    write_params(whole)
    job, card, records = train_job(dataset, whole)
    model_folder.save(MODELS, job.network, card)
    HISTORY.parent.mkdir()
    history.write(HISTORY, records)
