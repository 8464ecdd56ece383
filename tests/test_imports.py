"""What each stage has imported when it ends: nothing that takes long and that it does not use.

Each stage runs as DVC starts it, on a few images, and as if no extra were installed. What its
helper processes import is not counted.
"""

import json
import os
import subprocess
import sys

import pytest

from pipeline.params import Params
from tests import ROOT

# Runs a stage, and writes the names of its modules when it ends.
PROGRAM = """
import atexit, pathlib, runpy, sys
output, extras, module, *words = sys.argv[1:]
sys.modules |= dict.fromkeys(extras.split())  # as if they were not installed
names = lambda: [name for name, module in sys.modules.items() if module]
atexit.register(lambda: pathlib.Path(output).write_text("\\n".join(names())))
sys.argv = ["-m", *words]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# Those of pyproject.toml, what they bring along, and plugins.
EXTRAS = ("ray", "s3fs", "gcsfs", "adlfs", "boto3", "botocore", "aiobotocore", "psycopg", "dvc_s3")
DATASET_TOML = (ROOT / "datasets/sample/dataset.toml").read_text()
FOLDER, RAW, CLEAN, VERDICTS = "datasets/sample", "data/raw", "data/clean", "data/verdicts.csv"
SPLIT, LEAKS, FEATURES, HISTORY = "split.csv", "leaks.csv", "data/features", "history.csv"
WORDS = {
    "check": ["data/checked.txt"],
    "acquire": [FOLDER, "datasets", RAW, "skipped.csv"],
    "filter": [FOLDER, RAW, CLEAN, VERDICTS],
    "split": [CLEAN, VERDICTS, SPLIT, LEAKS],
    "describe": [FOLDER, RAW, CLEAN, VERDICTS, SPLIT, LEAKS, "skipped.csv", "data.html"],
    "features": [CLEAN, SPLIT, FEATURES],
    "train": [CLEAN, SPLIT, FEATURES, "models", HISTORY, "augmented.png"],
    "evaluate": ["models", FEATURES, CLEAN, SPLIT, HISTORY, "metrics.json", "test", "report.html"],
}
NOWHERE = {"mlflow", "pandas", "sklearn", "matplotlib", "captum", "sympy", "typer"}
COMPILER = {"torch._dynamo", "torch._inductor", "torch._decomp", "torch._prims", "torch.onnx"}
WITHOUT_TORCH = {"torch", "torchvision", "lightning_fabric"}
FORBIDDEN = {
    "check": NOWHERE | WITHOUT_TORCH | {"scipy", "requests", "rich", "PIL", "cv2"},
    "acquire": NOWHERE | WITHOUT_TORCH | {"scipy", "rich"},
    "filter": NOWHERE | WITHOUT_TORCH | {"requests", "rich"},  # scipy joins near-duplicates
    "split": NOWHERE | WITHOUT_TORCH | {"scipy", "requests", "rich", "PIL", "cv2"},
    "describe": NOWHERE | WITHOUT_TORCH | {"scipy", "requests"},
    # Where OpenVINO is the engine, it imports the base class of torch's tensors without values.
    "features": NOWHERE | COMPILER - {"torch._decomp", "torch._prims"} | {"scipy", "requests"},
    "train": NOWHERE | COMPILER | {"scipy", "requests", "rich", "timm"},
    "evaluate": NOWHERE | COMPILER | {"scipy", "requests", "rich", "timm"},
}
MAX_MODULES = {
    "check": 470,
    "acquire": 790,
    "filter": 670,  # and those of scipy, if there are near-duplicates
    "split": 450,
    "describe": 730,
    "features": 2050,
    "train": 1950,
    "evaluate": 1950,
}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory, params: Params) -> dict[str, set[str]]:
    """The modules of each stage's process at its end."""
    folder = tmp_path_factory.mktemp("project")
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / "dataset.toml").write_text(
        DATASET_TOML.replace("images_per_class = 150", "images_per_class = 20")
    )
    (folder / "params.yaml").write_text(json.dumps(params.model_dump()))
    trained = {"stages": {"train": {"params": {"params.yaml": params.model_dump()}}}}
    (folder / "dvc.lock").write_text(json.dumps(trained))  # otherwise check builds the network
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DVC_", "MLFLOW_", "PYTEST_"))
    }
    environment |= {"DVC_ROOT": str(folder), "PYTHONPATH": str(ROOT)}
    modules_by_stage = {}
    for stage, words in WORDS.items():
        names = folder / f"{stage}.txt"
        arguments = [str(names), " ".join(EXTRAS), f"pipeline.stages.{stage}", *words]
        program = [sys.executable, "-c", PROGRAM, *arguments]
        process = subprocess.run(
            program, cwd=folder, env=environment, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        modules_by_stage[stage] = set(names.read_text().split("\n"))
    return modules_by_stage


@pytest.mark.parametrize("stage", WORDS)
def test_a_stage_imports_nothing_slow_that_it_does_not_use(
    stage: str, modules: dict[str, set[str]]
) -> None:
    assert not FORBIDDEN[stage] & modules[stage]


@pytest.mark.parametrize("stage", WORDS)
def test_a_stage_imports_few_modules(stage: str, modules: dict[str, set[str]]) -> None:
    assert len(modules[stage]) <= MAX_MODULES[stage]
