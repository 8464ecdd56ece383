"""A complete result of DVC in the working directory, whose model and reports are made up."""

import json
import shutil
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import dvc_lock
from pipeline.params import Params
from tests import ROOT
from tests.builders.repositories import commit_all, result_lock

TABLES = ("data/skipped.csv", "data/verdicts.csv", "data/leaks.csv")
MORE_OUTS = {
    "split": ("data/raw", "data/clean", "data/split.csv", *TABLES),
    "evaluate": ("reports/metrics.json",),
}
TEXTS = (*TABLES, "requirements.lock", "dvc.yaml", "models/model.json", "models/model.safetensors")
REPORTS = ("reports/history.csv", "reports/report.html")


def write_result(params: Params) -> None:
    """Add a model, tables, reports and dvc.lock to data/, and commit what git has of them."""
    for name in (*TEXTS, *REPORTS, "pipeline/a.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"{name}\n")
    shutil.copytree(ROOT / "datasets/sample", "datasets/sample")
    Path("reports/metrics.json").write_text('{"accuracy": 0.75, "loss": null, "n": 8}')
    Path(".gitignore").write_text("mlflow.db\nmlartifacts/\n.cache/\n/models\n/data\n")
    YAML(typ="safe", pure=True).dump(params.model_dump(), Path("params.yaml"))
    lock = result_lock(params, dvc_lock.digest(Path("models")))
    for stage, paths in MORE_OUTS.items():
        outs = [{"path": path, "md5": dvc_lock.digest(Path(path))} for path in paths]
        others = [out for out in lock["stages"][stage]["outs"] if out["path"] not in paths]
        lock["stages"][stage]["outs"] = [*others, *outs]
    Path("dvc.lock").write_text(json.dumps(lock))
    commit_all("result")
