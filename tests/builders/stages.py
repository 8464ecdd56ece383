"""Run stages as dvc.yaml does, but in this process and the working directory."""

import json
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params import Params
from pipeline.stages.evaluate import __main__ as evaluate
from pipeline.stages.evaluate.metrics import Figures
from pipeline.stages.train import __main__ as train

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


def evaluate_stage() -> Figures:
    evaluate.main(MODELS, FEATURES, CLEAN, SPLIT, HISTORY, METRICS, TEST, REPORT)
    figures: Figures = json.loads(METRICS.read_text())
    return figures
