"""Stage train: only what is trainable runs in the loop; the best validation loss is kept."""

import copy
import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn, optim
from torch.nn import functional

from pipeline import (
    atomic,
    batches,
    cut,
    device,
    frozen,
    images,
    memo,
    model,
    params,
    stage,
    tracking,
    views,
)  # fmt: skip
from pipeline.batches import Examples, Index, Source
from pipeline.errors import PipelineError
from pipeline.params import Params, Train
from pipeline.progress import bar


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to. Losses are mean cross entropy in nats, accuracies in 0..1."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    train_accuracy: float
    """While training, so over the epoch's own steps."""
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Job:
    """Everything that the loop needs, and the network that it trains a part of."""

    network: nn.Module
    suffix: nn.Module
    source: Source
    index: Index
    card: model.Card
    fabric: Fabric


def prepare(settings: Params, examples: Examples, features: Path, clean: Path) -> Job:
    """Build the network with a fresh head, cut it, and open what the suffix runs over."""
    built = model.backbone(settings.model, settings.features.seed)
    first = model.trained_from(built.network, settings.model.trainable)
    head_seed = settings.train.seed
    model.replace_head(built.network, settings.head, len(examples.classes), head_seed)
    preprocess = model.preprocess(settings.images, built.usual)
    parts = cut.cut(built.network, first, preprocess.size)
    fabric = device.start(settings.device)
    index = batches.read_index(features)
    part = frozen.Frozen(parts, preprocess, fabric, getattr(torch, index.dtype))
    card = model.Card(
        backbone=built.name, options=built.options, head=settings.head.kind, trained_from=first,
        classes=examples.classes, max_megapixels=settings.filter.max_megapixels,
        store_side=settings.filter.store_side, preprocess=preprocess,
        fingerprint=_fingerprint(settings, examples, index),
    )  # fmt: skip
    source = batches.open_source(features, clean, examples, part)
    return Job(built.network, parts.suffix, source, index, card, fabric)


def _fingerprint(settings: Params, examples: Examples, index: Index) -> str:
    names = ("filter", "images", "model", "features", "head", "train", "device")
    split = "\n".join(map(str, zip(examples.ids, examples.labels, examples.splits, strict=True)))
    values = {name: getattr(settings, name).model_dump() for name in names} | {
        "split": hashlib.sha256(split.encode()).hexdigest(), "prefix": index.prefix,
    }  # fmt: skip
    modules = [batches, cut, frozen, images, model, views, sys.modules[fit.__module__]]
    return memo.fingerprint(values, modules, ["torch", "torchvision", "lightning-fabric"])


def fit(job: Job, examples: Examples, chosen: Train) -> Iterator[Epoch]:
    """Train `job.suffix`, yielding each epoch as it ends; once exhausted, the best one stands.

    Raises:
        PipelineError: the loss stopped being a number.
    """
    torch.manual_seed(chosen.seed)
    order = torch.Generator().manual_seed(chosen.seed)
    optimizer = make_optimizer(job.suffix, chosen)
    module, optimizer = job.fabric.setup(job.suffix, optimizer)
    train, val = examples.rows("train"), examples.rows("val")
    best_loss, best = math.inf, copy.deepcopy(job.suffix.state_dict())
    for number in range(chosen.epochs):
        shuffled = torch.tensor(train)[torch.randperm(len(train), generator=order)].tolist()
        steps = batches.chunks(shuffled, chosen.batch_size)
        inputs = job.source.batches(steps, job.index.view_of(number))
        module.train()
        trained = _epoch(module, optimizer, job.fabric, zip(inputs, steps, strict=True), examples)
        scores = batches.logits(module, job.source, val, chosen.batch_size)
        record = Epoch(number + 1, *trained, *_judge(scores, examples.labels[val]))
        _check(record)
        if record.val_loss < best_loss:
            best_loss, best = record.val_loss, copy.deepcopy(job.suffix.state_dict())
        yield record
        if chosen.target_accuracy is not None and record.val_accuracy >= chosen.target_accuracy:
            break
    job.suffix.load_state_dict(best)


def _epoch(
    module: nn.Module, optimizer: optim.Optimizer, fabric: Fabric,
    steps: Iterator[tuple[cut.Tensors, list[int]]], examples: Examples,
) -> tuple[float, float]:  # fmt: skip
    """One pass; returns mean loss and accuracy."""
    loss_sum, right, seen = 0.0, 0.0, 0
    for inputs, rows in steps:
        labels = fabric.to_device(examples.labels[rows])
        scores = module(*inputs)
        loss = functional.cross_entropy(scores, labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        loss_sum += loss.item() * len(rows)
        right += (scores.argmax(dim=1) == labels).sum().item()
        seen += len(rows)
    return loss_sum / seen, right / seen


def _judge(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    loss = functional.cross_entropy(scores, labels).item()
    return loss, (scores.argmax(dim=1) == labels).float().mean().item()


def _check(record: Epoch) -> None:
    if not (math.isfinite(record.train_loss) and math.isfinite(record.val_loss)):
        raise PipelineError(
            f"the loss is no longer a number in epoch {record.epoch}: lower train.lr"
        )


def make_optimizer(suffix: nn.Module, chosen: Train) -> optim.Optimizer:
    """The optimizer that `train.optimizer` names, over everything in the suffix."""
    kinds: dict[str, type[optim.Optimizer]] = {
        "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop, "sgd": optim.SGD,
    }  # fmt: skip
    options: dict[str, Any] = {"lr": chosen.lr, "weight_decay": chosen.weight_decay}
    return kinds[chosen.optimizer](suffix.parameters(), **options)


def write_history(path: Path, history: list[Epoch]) -> None:
    header = [field.name for field in fields(Epoch)]
    atomic.write_csv(path, header, [astuple(record) for record in history])


def main(clean: Path, split_csv: Path, features: Path, models: Path, history_csv: Path) -> None:
    """Train on FEATURES (or CLEAN, where nothing is stored) into MODELS and HISTORY_CSV."""
    settings = params.load()
    examples = batches.read_examples(split_csv)
    job = prepare(settings, examples, features, clean)
    history: list[Epoch] = []
    with tracking.training(settings) as run, bar("train", settings.train.epochs, "epoch") as shown:
        for record in fit(job, examples, settings.train):
            history.append(record)
            run.epoch(asdict(record))
            shown.update()
        model.save(models, job.network, job.card)
        write_history(history_csv, history)
        run.best([asdict(record) for record in history])
        run.model(models, job.suffix)
    best = min(history, key=lambda record: record.val_loss)
    print(
        f"train: best epoch {best.epoch} of {len(history)}, "
        f"validation loss {best.val_loss:.4f}, accuracy {best.val_accuracy:.4f}"
    )


if __name__ == "__main__":
    stage.run(main)
