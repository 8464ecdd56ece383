"""Classes without an image in val or test, through features, train and evaluate."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

from pipeline.core.split_csv import read_split, write_split
from pipeline.params import Params
from pipeline.stages.features import __main__ as features
from tests.builders import stages
from tests.builders.params import override


def test_classes_that_are_only_trained_leave_all_figures_finite(
    dataset: Path, params: Params
) -> None:
    rows = list(read_split(dataset / "split.csv"))
    train = [row.id for row in rows if row.split == "train"]
    val = [row.id for row in rows if row.split == "val"]
    small = {train[0]: "one group", train[1]: "two groups", val[0]: "two groups"}
    rows = [replace(row, label=small.get(row.id, row.label)) for row in rows]
    write_split(dataset / "split.csv", rows)
    stages.write_params(override(params, train__class_weights="balanced"))
    features.main(dataset / "clean", dataset / "split.csv", dataset / "features")
    stages.train_stage()
    figures = stages.evaluate_stage()
    numbers = [value for value in figures.values() if isinstance(value, float)]
    assert numbers
    assert all(map(math.isfinite, numbers))
    assert "NaN" not in json.dumps(figures)
    table = (stages.TEST / "classes.csv").read_text()
    assert re.search(r"^one group,0,0,\d+,(0\.0)?,,,,$", table, re.MULTILINE)
    assert "No test image of one group, two groups: " in stages.REPORT.read_text()
