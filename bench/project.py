"""A project of its own for benchmarks, and what its fresh processes do.

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

import torch
from ruamel.yaml import YAML

from pipeline.commands.export.imagefolder import imagefolder
from pipeline.core.history import Record
from pipeline.network import device, feature_store, views
from pipeline.network import examples as batches
from pipeline.network.examples import Examples
from pipeline.network.parallel_forward import SUB_BATCH
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.acquire import __main__ as acquire
from pipeline.stages.evaluate import test_set
from pipeline.stages.features import __main__ as features
from pipeline.stages.features import compute
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
        settings = with_overrides(self.base, named)
        YAML(typ="safe", pure=True).dump(settings.model_dump(), self.folder / "params.yaml")
        return settings

    def measure(self, name: str) -> Figures:
        """The figures of one loop, in a fresh process."""
        figures: Figures = json.loads(self._python("bench.project", name).splitlines()[-1])
        return figures

    def tutorial(self) -> Figures:
        """Its own figures, and `wall`, its process's seconds."""
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
        """Remove what features and train left, and what they remember; data and MLflow stay."""
        for name in (".cache", FEATURES, MODELS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def warm_up(self) -> None:
        """Run all once, so that files are in memory, and MLflow's database is there."""
        self.configure(train__epochs=1, images__augment="none", features__views=0)
        self.measure("work")
        self.forget()

    def _python(self, module: str, *arguments: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_"))}
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=kept | {"DVC_ROOT": str(self.folder), "PYTHONPATH": str(ROOT)},
        ).stdout


def data() -> Figures:
    """Acquire, filter, split and export; images per split."""
    params = load_params().dataset
    dataset, raw, verdicts = ROOT / "datasets" / params.name, Path("data/raw"), Path("verdicts.csv")
    acquire.main(dataset, params.source, raw, Path("skipped.csv"))
    filtering.main(dataset, raw, CLEAN, verdicts)
    split.main(CLEAN, verdicts, SPLIT, Path("leaks.csv"))
    imagefolder(CLEAN, SPLIT, LOOSE)
    examples = batches.read_examples(SPLIT)
    return {name: len(examples.rows(name)) for name in ("train", "val", "test")}


def work() -> Figures:
    """Seconds of features and of train, and the test accuracy, which is found afterwards."""
    computed, trained = stage(), training()
    seconds = computed["seconds"] + trained["seconds"]
    return {
        "features": computed["seconds"],
        "train": trained["seconds"],
        "seconds": seconds,
        "accuracy": _accuracy(),
    }


def _accuracy() -> float:
    settings, examples = load_params(), batches.read_examples(SPLIT)
    model = test_set.load_model(MODELS, FEATURES, CLEAN, examples, settings.device)
    result = test_set.run_on_test_set(model, examples)
    return float((result.predicted == result.labels).mean())


def stage() -> Figures:
    """Everything that features does."""
    start = time.perf_counter()
    features.main(*STAGES["pipeline.stages.features"])
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in FEATURES.glob("*.npy"))
    return {"seconds": seconds, "features": _count(), "gigabytes": size / 1e9}


def stored() -> Figures:
    """What features does once its network is built."""
    settings, examples = load_params(), batches.read_examples(SPLIT)
    part = compute.frozen_prefix(settings)
    index = compute.describe(settings, part, examples)
    assert index.stored, index.why
    FEATURES.mkdir()
    start = time.perf_counter()
    maker = compute.FeatureSettings(part, settings.images, index)
    compute.store(FEATURES, CLEAN, maker, examples)
    return {"seconds": time.perf_counter() - start, "features": _count()}


def floor() -> Figures:
    """The frozen part over views that lie decoded in memory, in batches and threads as there."""
    settings, examples = load_params(), batches.read_examples(SPLIT)
    part = compute.frozen_prefix(settings)
    size = part.preprocess.size
    part(torch.zeros(1, 3, size, size).byte())  # it is made ready when it is first used
    waiting = list(_pixels(settings, examples, part.preprocess))
    cores = torch.get_num_threads() if part.device.type == "cpu" else 1
    start = time.perf_counter()
    with device.one_thread_each(), ThreadPoolExecutor(cores) as pool:
        for found in pool.map(lambda pixels: [each.cpu() for each in part(pixels)], waiting):
            assert found
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "features": sum(map(len, waiting)), "precision": part.precision}


def _pixels(
    params: Params, examples: Examples, preprocess: views.Preprocess
) -> Iterator[torch.Tensor]:
    """Every view of every image that features computes, uint8 (B, 3, S, S)."""
    for view in range(params.features.views + 1):
        rows = examples.rows("train") if view else range(len(examples.ids))
        ids = [examples.ids[row] for row in rows]
        encoded, seed = views.EncodedImages(CLEAN, ids), params.features.seed
        seen = views.Views(ids, encoded, preprocess, params.images, [view], seed)
        for part in feature_store.chunks(range(len(ids)), SUB_BATCH, 1):
            yield torch.stack([seen[index] for index in part])


def _count() -> int:
    """Features that the stage computes: of all images, and of further views of those that train."""
    examples = batches.read_examples(SPLIT)
    return len(examples.ids) + load_params().features.views * len(examples.rows("train"))


def training() -> Figures:
    """Everything that train does, and the seconds of each epoch but the first."""
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


LOOPS = {each.__name__: each for each in (data, work, stage, stored, floor, training)}


if __name__ == "__main__":
    gc.freeze()  # as a stage does when it starts
    print(json.dumps(LOOPS[sys.argv[1]]()))
