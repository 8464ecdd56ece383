"""Seconds and memory of finding suspects, by the number of images and of classes, on one core.

    python -m bench.suspects [--images 20000,100000] [--classes 10,100,1000]

Features are drawn, 128 per image, and three of a hundred labels are wrong. Every third image has a
near-duplicate. Each row of the table is of a process of its own; "folds" is the division into folds
alone, and "scikit-learn's" the same with StratifiedGroupKFold.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from bench.project import ROOT
from pipeline.commands.suspects.suspects import FOLDS, OutOfFold, contradicted_labels
from pipeline.inference.pooled_features import Features, _Array
from pipeline.solvers.folds import stratified_folds

FEATURES = 128  # per image
WRONG = 33  # one of so many labels
MAX_CELLS = 2_000_000  # classes times images, for scikit-learn's: 5 s
TITLE = "| images | classes | folds, CPU s | scikit-learn's | all, CPU s | MiB | beyond start |"


def draw(path: Path, images: int, classes: int) -> tuple[Features, np.ndarray, np.ndarray]:
    """Features in a file, labels, and groups."""
    random = np.random.default_rng(0)
    true = np.arange(images) % classes
    centres = random.normal(size=(classes, FEATURES)).astype(np.float32)
    with path.open("wb") as file:
        for start in range(0, images, 10_000):
            block = true[start : start + 10_000]
            noise = random.normal(scale=1.5, size=(len(block), FEATURES))
            (centres[block] + noise).astype(np.float32).tofile(file)
    labels = np.where(random.integers(WRONG, size=images) == 0, (true + 1) % classes, true)
    groups = np.arange(images)
    groups[2::3] = groups[:-2:3]  # not always of one class
    array = _Array(path, np.dtype(np.float32), (images, FEATURES), offset=0)
    return Features([array]), labels, np.unique(groups, return_inverse=True)[1]


def measure(images: int, classes: int) -> list[str]:
    """The cells of a row."""
    with tempfile.TemporaryDirectory() as folder:
        features, labels, groups = draw(Path(folder, "features"), images, classes)
        start = time.process_time()
        stratified_folds(labels, groups, FOLDS)
        folds = time.process_time() - start
        reference = "too slow"
        if images * classes <= MAX_CELLS:
            start = time.process_time()
            kfold = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
            list(kfold.split(labels, labels, groups))
            reference = f"{time.process_time() - start:.2f}"
        before = peak_mib()
        start = time.process_time()
        models = OutOfFold(features, np.arange(images), labels, groups, classes)
        contradicted_labels(labels, models.probabilities)
        seconds = time.process_time() - start
        memory = peak_mib()
    figures = [
        f"{folds:.2f}",
        reference,
        f"{seconds:.1f}",
        f"{memory:.0f}",
        f"{memory - before:.0f}",
    ]
    return [f"{images:,}", f"{classes:,}", *figures]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", default="20000,100000", metavar="N,M")
    parser.add_argument("--classes", default="10,100,1000", metavar="N,M")
    parser.add_argument("--run", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(f"| {' | '.join(measure(*options.run))} |", flush=True)
        return
    print(f"{TITLE}\n{'|---' * TITLE.count(' | ')}|---|", flush=True)
    for classes in options.classes.split(","):
        for images in options.images.split(","):
            subprocess.run(
                [sys.executable, "-m", "bench.suspects", "--run", images, classes],
                check=True,
                stderr=subprocess.DEVNULL,  # the progress bar
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                cwd=ROOT,
            )


if __name__ == "__main__":
    main()
