"""Params for tests, and what dvc.lock contains after a split."""

import shlex
from typing import Any

from ruamel.yaml import YAML

from pipeline.commands.recipe import recipes
from pipeline.core import dvc_lock
from pipeline.params import (
    AcquireParams,
    FilterParams,
    Params,
    SplitParams,
    parse_params,
    with_overrides,
)
from pipeline.stages.split.previous_split import ASSIGNMENT_CODE
from tests import ROOT

ACQUIRE_PARAMS = AcquireParams(
    workers=4,
    per_host_per_second=0,
    max_missing_fraction=0,
    respect_robots=True,
    allow_private=True,
    max_gigabytes=1,
    max_file_megabytes=1,
)
FILTER_PARAMS = FilterParams(
    min_side=32,
    max_megapixels=1,
    store_side=64,
    near_duplicate_bits=4,
    near_duplicate_crops=True,
    near_duplicates="keep",
    max_reject_fraction=0.5,
)
# Trains from scratch in a fraction of the time of the shipped network.
NARROW_RESNET = {"model__backbone": "resnet9_narrow", "model__weights": "none"}


def small_params(shipped: Params, **overrides: Any) -> Params:
    """`shipped` with fast values; `overrides`, by dotted name, take precedence."""
    fast = {
        "images.size": 32,
        "features.views": 1,
        "features.precision": "32-true",
        "train.epochs": 3,
        "train.batch_size": 8,
        "device.accelerator": "cpu",
        "split.val": 0.25,
        "split.test": 0.25,
    }
    return with_overrides(shipped, fast | overrides)


def override(params: Params, **overrides: object) -> Params:
    """`params` with other values: `train__lr=0.1` sets train.lr."""
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return with_overrides(params, named)


def split_params(**overrides: Any) -> SplitParams:
    values = {
        "seed": 1,
        "val": 0.2,
        "test": 0.3,
        "train": None,
        "prescribed": True,
        "folds": None,
        "fold": 0,
        "leaks": "drop",
        "incomplete_classes": "keep",
    }
    return SplitParams.model_validate(values | overrides)


def locked_code() -> list[dict[str, str]]:
    """The code deps of the split as dvc.lock lists them after a run with the present code."""
    return [
        {
            "path": name,
            "hash": "md5",
            "md5": dvc_lock.digest(ROOT / name),
        }
        for name in ASSIGNMENT_CODE
    ]


def recipe_params(name: str) -> Params:
    """params.yaml with the recipe's options, as DVC applies them."""
    values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    words = shlex.split(" ".join(recipes.read(name).options()))
    for flag, option in zip(words[::2], words[1::2], strict=True):
        assert flag == "-S"
        key, _, value = option.partition("=")
        section, _, leaf = key.partition(".")
        assert leaf in values[section], key
        values[section][leaf] = YAML(typ="safe", pure=True).load(value)
    return parse_params(values)
