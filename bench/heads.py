"""Seconds to solve a head, beside scikit-learn with the same penalties.

    python -m bench.heads              # rows of a small data set: 245 of 1,280 features, 2 classes
    python -m bench.heads --rows 50000 --classes 10 --penalties 41 --repeats 1
    python -m bench.heads --logistic   # along a path of penalties, in five folds

Rows are drawn: normal, around a centre for each class. Each row is a group by itself, as
scikit-learn leaves out single rows. Processor seconds are those of all threads.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV

from pipeline.solvers import logistic, ridge
from pipeline.solvers.problem import Problem

WIDTH = 1280  # features of mobilenet_v2
DISTANCE = 0.1  # of centres in each direction, in standard deviations


def draw(rows: int, classes: int) -> Problem:
    random = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    centres = DISTANCE * random.normal(size=(classes, WIDTH)).astype(np.float32)
    features = random.standard_normal((rows, WIDTH), np.float32) + centres[labels]
    return Problem.of(features, labels, np.arange(rows), classes)


def features_of(problem: Problem) -> npt.NDArray[np.float64]:
    return np.asarray(problem.features[np.arange(len(problem))], np.float64)


def unit_of(problem: Problem) -> float:
    """The sum of the squares of the centred rows, in which penalties are given."""
    features = features_of(problem)
    return float(np.square(features - features.mean(axis=0)).sum())


def our_ridge(problem: Problem, count: int) -> float:
    return ridge.fit(problem, ridge.penalties(count)).penalty


def our_logistic(problem: Problem, count: int) -> float:
    return logistic.fit(problem, logistic.penalties(count)).penalty


def ridge_of_sklearn(problem: Problem, count: int) -> float:
    """Its best penalty, in our unit."""
    unit = unit_of(problem)
    targets = np.eye(problem.classes)[problem.labels][:, -problem.outputs :]
    model = RidgeCV(ridge.penalties(count) * unit).fit(features_of(problem), targets)
    return float(model.alpha_ / unit)


def logistic_of_sklearn(problem: Problem, count: int) -> float:
    unit = unit_of(problem)
    inverses = np.sort(1 / (logistic.penalties(count) * unit))
    options: dict[str, Any] = {
        "scoring": "neg_log_loss",
        "max_iter": 1000,
        "use_legacy_attributes": False,
        "l1_ratios": (0,),  # only L2
    }
    model = LogisticRegressionCV(Cs=inverses, cv=logistic.FOLDS, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features_of(problem), problem.labels)
    return float(1 / (np.ravel(model.C_)[0] * unit))


def measure(solve: Callable[[], float]) -> tuple[float, float, float]:
    """Seconds, processor seconds, and the penalty that is best."""
    start, processor = time.perf_counter(), time.process_time()
    penalty = solve()
    return time.perf_counter() - start, time.process_time() - processor, penalty


def compare(problem: Problem, is_logistic: bool, count: int, repeats: int) -> None:
    ours, theirs = our_ridge, ridge_of_sklearn
    if is_logistic:
        ours, theirs = our_logistic, logistic_of_sklearn
    runs = [
        (measure(partial(ours, problem, count)), measure(partial(theirs, problem, count)))
        for _ in range(repeats)
    ]
    for number, name in enumerate(("pipeline.solvers", f"scikit-learn {sklearn.__version__}")):
        seconds = [run[number][0] for run in runs]
        processor = [run[number][1] for run in runs]
        print(
            f"{name}: {statistics.median(seconds):.3f} s ({min(seconds):.3f}-{max(seconds):.3f}), "
            f"{statistics.median(processor):.3f} processor s, n={repeats}, "
            f"best penalty {runs[0][number][2]:.2g}"
        )
    ratios = [b[1] / a[1] for a, b in runs]
    print(f"scikit-learn / ours, processor seconds: {statistics.median(ratios):.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logistic", action="store_true")
    parser.add_argument("--rows", type=int, default=245)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--penalties", type=int, help="1,000, or 17 with --logistic")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    count = options.penalties or (logistic.PENALTIES if options.logistic else 1000)
    print(f"{os.cpu_count()} cores; {options.rows} x {WIDTH}, {count} penalties")
    problem = draw(options.rows, options.classes)
    compare(problem, options.logistic, count, options.repeats)


if __name__ == "__main__":
    main()
