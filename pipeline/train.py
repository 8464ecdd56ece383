"""Stage train: a fresh head, and as much of the network below it as is to be trained."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from lightning_fabric import Fabric

from pipeline import (
    batches,
    calibration,
    device,
    feed,
    frozen,
    images,
    memo,
    model,
    params,
    shards,
    stage,
    views,
)  # fmt: skip
from pipeline.batches import Examples
from pipeline.feed import PART
from pipeline.frozen import Frozen
from pipeline.network import assembly, backbone, crossing, cut, head, layout, small, weights
from pipeline.network.assembly import Assembly, NewHead
from pipeline.network.layout import channels_last
from pipeline.params import Params
from pipeline.progress import bar
from pipeline.tracking import record
from pipeline.tracking.run import Run
from pipeline.training import loop, optimizer, picture, records, resume, state
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.records import Record
from pipeline.training.state import Job

LIBRARIES = ["torch", "torchvision", "lightning-fabric", "opencv-python-headless", "timm"]


def assemble(settings: Params, classes: int) -> Assembly:
    """The network of `settings`, ended with a fresh head, and cut."""
    end = NewHead(settings.head, classes, settings.train.seed)
    return assembly.assemble(settings.model, settings.images, settings.features.seed, end)


def prepare(
    settings: Params,
    made: Assembly,
    examples: Examples,
    features: Path,
    clean: Path,
    fabric: Fabric,
) -> Job:
    """Open what the suffix runs over, and move it to its device."""
    index = batches.read_index(features)
    part = Frozen(
        made.parts, made.preprocess, fabric, index.precision, getattr(torch, index.dtype),
        settings.device.compile,
    )  # fmt: skip
    source = batches.open_source(features, clean, settings.images, examples, part)
    fresh = set(made.network.get_submodule(made.replaced).parameters())
    pretrained = set(made.network.parameters()) - fresh if made.backbone.pretrained else set()
    suffix = channels_last(made.parts.suffix)  # as images are
    return Job(
        made.network, suffix, frozenset(pretrained), source, index, fabric,
        settings.device.compile,
    )  # fmt: skip


def calibrate(job: Job, examples: Examples) -> float:
    """The temperature at which the validation set's probabilities fit it best."""
    rows = examples.rows("val")
    with job.fabric.autocast():
        scores = batches.logits(job.suffix, job.source, rows, PART)
    return calibration.temperature(scores.double().numpy(), examples.labels[rows].numpy())


def card(settings: Params, made: Assembly, examples: Examples, fingerprint: str) -> model.Card:
    """What predicting needs to know of the network, beside its weights."""
    return model.Card(
        backbone=made.backbone.name, options=made.backbone.options, head=settings.head,
        replaced=made.replaced, trained_from=made.first, classes=examples.classes,
        max_megapixels=settings.filter.max_megapixels, store_side=settings.filter.store_side,
        preprocess=made.preprocess, precision=settings.features.precision,
        fingerprint=fingerprint,
    )  # fmt: skip


def fingerprint(
    settings: Params, examples: Examples, clean: Path, job: Job
) -> str:  # fmt: skip
    """Digest of everything that decides the bytes of the model; `job` has not begun yet."""
    names = ("filter", "images", "model", "head", "train", "device")
    split = "\n".join(map(str, zip(examples.ids, examples.labels, examples.splits, strict=True)))
    # With its perceptual hash and size an image is known again, and its bytes need not be read.
    seen = shards.columns(clean, ["id", "width", "height", "phash"]).to_pydict()
    values = {name: getattr(settings, name).model_dump() for name in names} | {
        "split": _sha256(split), "seen": _sha256(str(seen)), "features": job.index.model_dump(),
        "threads": torch.get_num_threads(), "kind": job.fabric.device.type,
        "weights": weights.digest(job.network.state_dict()),  # a path says nothing of them
    }  # fmt: skip
    modules = [
        assembly, backbone, batches, calibration, crossing, cut, feed, frozen, head, images, layout,
        loop, optimizer, resume, small, state, views, sys.modules[__name__],
    ]  # fmt: skip
    return memo.fingerprint(values, modules, LIBRARIES)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def recorded(
    settings: Params, fabric: Fabric, digest: str, split_csv: Path
) -> Iterator[Run]:  # fmt: skip
    """The MLflow run of this training; of several processes, the first one's."""
    if not fabric.is_global_zero:
        yield Run()
        return
    with record.training(settings, digest, split_csv) as run:
        yield run


def train(
    settings: Params, job: Job, examples: Examples, saved: Checkpoint, run: Run
) -> list[Record]:
    """Run the loop, and tell `run` of each validation."""
    history: list[Record] = []

    def ended(epoch: int) -> None:
        if settings.train.log_checkpoints == "every":
            run.checkpoint(job.suffix, f"epoch_{epoch:04d}")

    remedy = (
        f"lower train.batch_size ({settings.train.batch_size}; train.accumulate makes up for it) "
        "or images.size, or train less of the network (model.trainable)"
    )
    if saved.exists and job.fabric.is_global_zero:
        print("train: goes on where a run of the same params was killed")
    with bar("train", settings.train.epochs, "epoch") as shown, device.memory(remedy):
        shown.disable = shown.disable or not job.fabric.is_global_zero
        for found in loop.fit(job, examples, settings.train, saved, ended):
            history.append(found)
            run.validation(asdict(found))
            shown.update(round(found.epoch - shown.n, 6))
    return history


def finish(
    settings: Params, run: Run, history: list[Record], job: Job, described: model.Card,
    models: Path, augmented: Path,
) -> None:  # fmt: skip
    """Write the model, and tell `run` of it."""
    model.save(models, job.network, described)
    run.artifact(augmented, "train")
    suffix = job.suffix if settings.train.log_checkpoints != "none" else None
    record.trained(run, models, [asdict(each) for each in history], suffix)
    best = records.best(history)
    print(
        f"train: best epoch {best.epoch:g} of {history[-1].epoch:g}, "
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
    )


def main(
    clean: Path, split_csv: Path, features: Path, models: Path, history_csv: Path, augmented: Path
) -> None:
    """Train on FEATURES (or CLEAN, where nothing is stored) into MODELS; draw AUGMENTED."""
    settings = params.load()
    fabric = device.start(settings.device)
    fabric.launch()
    examples = batches.read_examples(split_csv)
    made = assemble(settings, len(examples.classes))
    job = prepare(settings, made, examples, features, clean, fabric)
    digest = fingerprint(settings, examples, clean, job)
    saved = Checkpoint(digest)
    with recorded(settings, fabric, digest, split_csv) as run:
        history = train(settings, job, examples, saved, run)
        if fabric.is_global_zero:
            shown = picture.augmented(clean, examples, made.preprocess, settings.images, job.index)
            picture.write(augmented, shown)
            records.write(history_csv, history)
            fitting = {"temperature": calibrate(job, examples)}
            described = card(settings, made, examples, digest).model_copy(update=fitting)
            finish(settings, run, history, job, described, models, augmented)
            saved.remove()


if __name__ == "__main__":
    stage.run(main)
