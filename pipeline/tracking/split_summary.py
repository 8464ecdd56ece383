"""The images of a split, as MLflow lists the data sets that a run used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities import Dataset, DatasetInput, InputTag


@dataclass(frozen=True)
class SplitSummary:
    """The images of a split, for MLflow's list of data sets."""

    digest: str
    """Of the images' ids: two runs with the same digest used the same images."""
    images: Mapping[str, int]
    """Number of images by class."""


def describe_inputs(name: str, splits: Mapping[str, SplitSummary]) -> list[DatasetInput]:
    """The splits of the data set `name` as inputs of a run, by MLflow's name for each split."""
    return [
        DatasetInput(
            Dataset(
                name,
                split.digest,
                "local",
                json.dumps({"uri": "data/split.csv"}),
                profile=json.dumps({"split": context, "images": dict(split.images)}),
            ),
            [InputTag("mlflow.data.context", context)],
        )
        for context, split in splits.items()
    ]
