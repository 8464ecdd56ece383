"""Stage train: a fresh head, and as much of the network below it as is to be trained."""

import hashlib
from pathlib import Path

import torch
from lightning_fabric import Fabric

from pipeline.core import shards
from pipeline.images import memo
from pipeline.network import (
    assembly,
    calibration,
    feature_store,
    model_folder,
    weights,
)
from pipeline.network.assembly import Assembly, NewHead
from pipeline.network.examples import Examples
from pipeline.network.halves import Halves
from pipeline.network.parallel_forward import SUB_BATCH
from pipeline.params import Params
from pipeline.stages.train.state import Job

LIBRARIES = ["torch", "torchvision", "lightning-fabric", "opencv-python-headless", "timm"]


def assemble(params: Params, classes: int) -> Assembly:
    """The network of `settings`, ended with a fresh head, and cut."""
    end = NewHead(params.head, classes, params.train.seed)
    return assembly.assemble(params.model, params.images, params.features.seed, end)


def prepare(
    params: Params,
    made: Assembly,
    examples: Examples,
    features: Path,
    clean: Path,
    fabric: Fabric,
) -> Job:
    """Open what the suffix runs over, and move it to its device."""
    index = feature_store.read_index(features)
    halves = Halves(
        made.cut,
        made.preprocess,
        fabric,
        index.precision,
        index.dtype,
        params.device.compile,
    )
    source = feature_store.open_source(features, clean, params.images, examples, halves.prefix)
    fresh = set(made.network.get_submodule(made.replaced).parameters())
    pretrained = set(made.network.parameters()) - fresh if made.backbone.pretrained else set()
    return Job(
        made.network,
        halves.suffix,
        frozenset(pretrained),
        source,
        index,
        fabric,
        params.device.compile,
    )


def calibrate(job: Job, examples: Examples) -> float:
    """The temperature at which the validation set's probabilities fit it best."""
    rows = examples.rows("val")
    with job.fabric.autocast():
        scores = feature_store.logits(job.suffix, job.source, rows, SUB_BATCH)
    return calibration.fit_temperature(scores.double().numpy(), examples.labels[rows].numpy())


def card(params: Params, made: Assembly, examples: Examples, fingerprint: str) -> model_folder.Card:
    """What predicting needs to know of the network, beside its weights."""
    return model_folder.Card(
        backbone=made.backbone.name,
        options=made.backbone.options,
        head=params.head,
        replaced=made.replaced,
        trained_from=made.trained_from,
        classes=examples.classes,
        max_megapixels=params.filter.max_megapixels,
        store_side=params.filter.store_side,
        preprocess=made.preprocess,
        precision=params.features.precision,
        fingerprint=fingerprint,
    )


def fingerprint(params: Params, examples: Examples, clean: Path, job: Job) -> str:
    """Digest of everything that decides the bytes of the model; `job` has not begun yet."""
    names = ("filter", "images", "model", "head", "train", "device")
    split = "\n".join(map(str, zip(examples.ids, examples.labels, examples.splits, strict=True)))
    # With its perceptual hash and size an image is known again, and its bytes need not be read.
    seen = shards.columns(clean, ["id", "width", "height", "phash"]).to_pydict()
    values = {name: getattr(params, name).model_dump() for name in names} | {
        "split": _sha256(split),
        "seen": _sha256(str(seen)),
        "features": job.index.model_dump(),
        "threads": torch.get_num_threads(),
        "kind": job.fabric.device.type,
        "weights": weights.digest(job.network.state_dict()),  # a path says nothing of them
    }
    return memo.fingerprint(values, [__name__, "pipeline.stages.train.loop"], LIBRARIES)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
