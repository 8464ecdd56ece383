"""Params that several tests choose, and what dvc.lock says of a split that was dealt."""

import hashlib
from typing import Any

from pipeline.params import FilterParams, SplitParams
from pipeline.stages.split.previous_split import DEALERS
from tests.imports import ROOT

LIMITS = FilterParams(
    min_side=32,
    max_megapixels=1,
    store_side=64,
    near_duplicate_bits=4,
    near_duplicates="keep",
    max_reject_fraction=0.5,
)


def split_params(**changes: Any) -> SplitParams:
    values = {
        "seed": 1,
        "val": 0.2,
        "test": 0.3,
        "train": None,
        "prescribed": True,
        "folds": None,
        "fold": 0,
        "leaks": "drop",
    }
    return SplitParams.model_validate(values | changes)


def locked_code() -> list[dict[str, str]]:
    """The deps of the split as dvc.lock lists them after a run with the code that there is."""
    return [
        {
            "path": name,
            "hash": "md5",
            "md5": hashlib.md5((ROOT / name).read_bytes()).hexdigest(),
        }
        for name in DEALERS
    ]
