"""dvc.lock of a whole run in a small repository, and what is left of it by a run of one stage."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.core import dvc_lock
from pipeline.params import Params

# The deps, params and outs of each stage; its code is in pipeline/STAGE.
STAGES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "acquire": (["datasets/sample", "photos"], ["dataset", "acquire"], ["data/raw"]),
    "filter": (["data/raw"], ["filter"], ["data/clean", "data/verdicts.csv"]),
    "split": (["data/clean", "data/verdicts.csv"], ["split"], ["data/split.csv"]),
    "describe": (["data/raw", "data/split.csv"], [], ["reports/data.html"]),
    "features": (
        ["data/clean", "data/split.csv"],
        ["images", "model", "features", "device"],
        ["data/features"],
    ),
    "train": (
        ["data/features", "data/split.csv"],
        ["model", "head", "train", "abstention"],
        ["models"],
    ),
    "evaluate": (["models", "data/features"], ["evaluate"], ["reports/metrics.json"]),
}
TEST = "reports/test"  # an out of evaluate that git does not have


def write_project(params: Params, accuracy: float = 0.5) -> None:
    """Write the code, data set, params and metrics of a project."""
    for path in ("datasets/sample/dataset.toml", *(f"pipeline/{name}/code.py" for name in STAGES)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(path)
    Path("params.yaml").write_text(json.dumps(params.model_dump()))
    Path("reports").mkdir(exist_ok=True)
    Path("reports/metrics.json").write_text(json.dumps({"accuracy": accuracy}))


class LockedRuns:
    """A dvc.lock, in which stages run one at a time, as DVC records them."""

    def __init__(self) -> None:
        self.stages: dict[str, Any] = {}

    def run(self, *stages: str, version: str = "1") -> None:
        """Run stages on the files of now; outs that git does not have are those of `version`."""
        params = json.loads(Path("params.yaml").read_text())
        for name in stages:
            deps, sections, outs = STAGES[name]
            made = {
                path: md5
                for entry in self.stages.values()
                for path, md5 in ((out["path"], out["md5"]) for out in entry["outs"])
            }
            outs = [*outs, TEST] if name == "evaluate" else outs
            self.stages[name] = {
                "cmd": name,
                "deps": [
                    {"path": path, "md5": made.get(path) or _digest(path, "")}
                    for path in [*deps, f"pipeline/{name}"]
                ],
                "params": {"params.yaml": {name: params[name] for name in sections}},
                "outs": [{"path": path, "md5": _digest(path, version)} for path in outs],
            }
        Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": self.stages}))


def _digest(path: str, version: str) -> str:
    if Path(path).exists():
        return dvc_lock.digest(Path(path))
    return hashlib.md5(f"{path} {version}".encode()).hexdigest()
