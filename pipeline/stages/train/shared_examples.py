"""The examples of a training, as its processes share them: the first one reads and sends them."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
from lightning_fabric import Fabric

from pipeline.network.examples import Examples, read_examples
from pipeline.network.feature_store import Index
from pipeline.stages.train.training_files import TrainingInputs


def share_examples(fabric: Fabric, inputs: TrainingInputs, index: Index) -> Examples:
    """The examples.

    Where features are stored, only the first process reads tables, and has ids and digests: two
    hundred bytes per image. In the others these are null. Where features are computed in the loop,
    each process finds its images by them.
    """
    own = None
    if fabric.is_global_zero or not index.stored:
        own = read_examples(inputs.split_csv, inputs.clean)
    sent: Any = fabric.broadcast((own.labels, own.splits, own.classes) if own else None)
    labels, splits, classes = sent
    if own is not None:
        return replace(own, labels=labels, splits=splits, classes=classes)
    nothing = pa.nulls(len(labels), pa.string())
    return Examples(nothing, labels, splits, classes, nothing)
