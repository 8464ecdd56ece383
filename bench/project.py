"""A project for benchmarks, and the loops that its processes run.

    python -m bench.project LOOP  # in its folder; used by bench.train

Each loop works in the working directory, as stages do, and returns figures. Seconds are of work:
Python's start and imports come before.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ruamel.yaml import YAML

from pipeline.commands.export.imagefolder import imagefolder
from pipeline.core.history import Record
from pipeline.network import device, feature_store, views
from pipeline.network.examples import Examples, read_examples
from pipeline.network.loading.parallel_forward import SUB_BATCH
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.acquire import __main__ as acquire
from pipeline.stages.evaluate import test_set
from pipeline.stages.features import __main__ as features
from pipeline.stages.features import compute, feature_files
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.split import __main__ as split
from pipeline.stages.train import __main__ as train
from pipeline.stages.train import loop

ROOT = Path(__file__).resolve().parent.parent
CLEAN, SPLIT, FEATURES, MODELS = map(
    Path, ("data/clean", "data/split.csv", "data/features", "models")
)
HISTORY, AUGMENTED = Path("reports/history.csv"), Path("reports/augmented.png")
LOOSE = Path("loose")
STAGES = {
    "pipeline.stages.features": (CLEAN, SPLIT, FEATURES),
    "pipeline.stages.train": (CLEAN, SPLIT, FEATURES, MODELS, HISTORY, AUGMENTED),
}
Figures = dict[str, Any]


class Project:
    """A folder with params.yaml, and later data, a model, and an MLflow database."""

    def __init__(self, folder: Path, base: Params) -> None:
        self.folder = folder
        self.base = base
        (folder / "reports").mkdir()
        self.configure()

    def configure(self, **changed: object) -> Params:
        """Write params.yaml; names have `__` for their dot."""
        named = {name.replace("__", "."): value for name, value in changed.items()}
        params = with_overrides(self.base, named)
        YAML(typ="safe", pure=True).dump(params.model_dump(), self.folder / "params.yaml")
        return params

    def measure(self, name: str) -> Figures:
        """The figures of one loop, in a fresh process."""
        figures: Figures = json.loads(self._python("bench.project", name).splitlines()[-1])
        return figures

    def tutorial(self) -> Figures:
        """The tutorial's figures, and `wall`, the seconds of its process."""
        start = time.perf_counter()
        figures: Figures = json.loads(self._python("bench.tutorial", str(LOOSE)).splitlines()[-1])
        return figures | {"wall": time.perf_counter() - start}

    def stages(self) -> float:
        """Seconds of features and train as DVC starts them."""
        start = time.perf_counter()
        for module, arguments in STAGES.items():
            self._python(module, *map(str, arguments))
        return time.perf_counter() - start

    def forget(self) -> None:
        """Remove the outputs and memos of features and train; data and MLflow stay."""
        for name in (".cache", FEATURES, MODELS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def warm_up(self) -> None:
        """Run everything once, so that files are cached and MLflow's database exists."""
        self.configure(train__epochs=1, images__augment="none", features__views=0)
        self.measure("work")
        self.forget()

    def _python(self, module: str, *arguments: str) -> str:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DVC_", "MLFLOW_"))
        }
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"DVC_ROOT": str(self.folder), "PYTHONPATH": str(ROOT)},
        ).stdout


def data() -> Figures:
    """Acquire, filter, split and export; images per split."""
    counts = images()
    imagefolder(CLEAN, SPLIT, LOOSE)
    return counts


def images() -> Figures:
    """Acquire, filter and split; images per split."""
    params = load_params().dataset
    dataset, raw, verdicts = ROOT / "datasets" / params.name, Path("data/raw"), Path("verdicts.csv")
    acquire.main(dataset, params.source, raw, Path("skipped.csv"))
    filtering.main(dataset, raw, CLEAN, verdicts)
    split.main(CLEAN, verdicts, SPLIT, Path("leaks.csv"))
    examples = read_examples(SPLIT, CLEAN)
    return {name: len(examples.rows(name)) for name in ("train", "val", "test")}


def work() -> Figures:
    """Seconds of features and of train, and the test accuracy, computed afterwards."""
    computed, trained = stage(), training()
    seconds = computed["seconds"] + trained["seconds"]
    return {
        "features": computed["seconds"],
        "train": trained["seconds"],
        "seconds": seconds,
        "accuracy": _accuracy(),
    }


def _accuracy() -> float:
    params, examples = load_params(), read_examples(SPLIT, CLEAN)
    model = test_set.load_model(MODELS, FEATURES, CLEAN, examples, params.device)
    result = test_set.run_on_test_set(model, examples)
    return float((result.predicted == result.labels).mean())


def stage() -> Figures:
    """The whole stage features."""
    start = time.perf_counter()
    features.main(*STAGES["pipeline.stages.features"])
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in FEATURES.glob("*.npy"))
    return {"seconds": seconds, "features": _count(), "gigabytes": size / 1e9}


def stored() -> Figures:
    """Stage features, without building its network."""
    params, examples = load_params(), read_examples(SPLIT, CLEAN)
    prefix = compute.frozen_prefix(params)
    index = compute.describe(params, prefix, examples)
    assert index.stored, index.why
    FEATURES.mkdir()
    start = time.perf_counter()
    settings = compute.FeatureSettings(prefix, params.images, index)
    feature_files.store(FEATURES, CLEAN, SPLIT, settings, examples)
    return {"seconds": time.perf_counter() - start, "features": _count()}


def floor() -> Figures:
    """The frozen part over decoded views in memory, in the batches and threads of the stage."""
    params, examples = load_params(), read_examples(SPLIT, CLEAN)
    prefix = compute.frozen_prefix(params)
    size = prefix.preprocess.size
    prefix(torch.zeros(1, 3, size, size).byte())  # the first call prepares it
    batches = list(_pixels(params, examples, prefix.preprocess))
    cores = torch.get_num_threads() if prefix.device.type == "cpu" else 1
    start = time.perf_counter()
    with device.one_thread_each(), ThreadPoolExecutor(cores) as pool:
        for tensors in pool.map(lambda batch: [values.cpu() for values in prefix(batch)], batches):
            assert tensors
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "features": sum(map(len, batches)), "precision": prefix.precision}


def _pixels(
    params: Params, examples: Examples, preprocess: views.Preprocess
) -> Iterator[torch.Tensor]:
    """Every view of every image that features computes, uint8 (B, 3, S, S)."""
    for view in range(params.features.views + 1):
        rows = examples.rows("train") if view else np.arange(len(examples))
        ids = examples.ids_of(rows)
        encoded, seed = views.EncodedImages(CLEAN, ids), params.features.seed
        view_images = views.Views(ids, encoded, preprocess, params.images, [view], seed)
        for batch in feature_store.chunks(np.arange(len(ids)), SUB_BATCH, 1):
            yield torch.stack([view_images[index] for index in batch])


def _count() -> int:
    """Number of features of the stage: of all images, and of the augmented training views."""
    examples = read_examples(SPLIT, CLEAN)
    return len(examples) + load_params().features.views * len(examples.rows("train"))


def training() -> Figures:
    """The whole stage train, and the seconds of each epoch but the first."""
    ends: list[float] = []
    fit = loop.fit

    def timed(*arguments: Any) -> Iterator[Record]:
        for record in fit(*arguments):
            yield record
            ends.append(time.perf_counter())  # when it has been logged

    start = time.perf_counter()
    with patch.object(loop, "fit", timed):
        train.main(*STAGES["pipeline.stages.train"])
    seconds = time.perf_counter() - start
    epochs = [late - early for early, late in pairwise(ends)]
    return {"seconds": seconds, "epochs": epochs}


LOOPS = {loop_.__name__: loop_ for loop_ in (data, images, work, stage, stored, floor, training)}


if __name__ == "__main__":
    gc.freeze()  # as a stage does when it starts
    print(json.dumps(LOOPS[sys.argv[1]]()))
