"""The training loop: it runs the suffix only, and keeps the weights with the lowest loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.views import EVALUATION
from pipeline.params import TrainParams
from pipeline.stages.train import resume
from pipeline.stages.train.checkpoint import Checkpoint
from pipeline.stages.train.divergence import how_to_stop
from pipeline.stages.train.state import Job, Training, start, weights_of


class _Sums:
    """Loss, correct predictions and images since the last validation, over all devices."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        dtype = torch.float32 if fabric.device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, dtype=dtype, device=fabric.device)

    def add(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """`loss` is a sum over the images. This does not wait for the device."""
        correct = (scores.argmax(dim=1) == labels).sum()
        count = torch.full_like(correct, len(labels))
        self._sums += torch.stack([loss, correct, count]).to(self._sums.dtype)

    def take(self) -> tuple[float, float]:
        """Mean loss and accuracy; resets the sums."""
        totals: Any = self._fabric.all_reduce(self._sums, reduce_op="sum")
        loss, correct, images = totals.tolist()
        self._sums = torch.zeros_like(self._sums)
        return loss / images, correct / images


def fit(
    job: Job,
    examples: Examples,
    params: TrainParams,
    checkpoint: Checkpoint | None = None,
    on_epoch_end: Callable[[int], None] = lambda _: None,
    on_step: Callable[[float], None] = lambda _: None,
) -> Iterator[Record]:
    """Train `job.suffix` and yield each validation; at the end it has the best weights.

    Args:
        checkpoint: Of a killed training with the same fingerprint, to continue; its records are
            yielded first.
        on_epoch_end: Called with the number, from 1, of each epoch that ended in this call.
        on_step: Called after each step with the epochs so far.

    Raises:
        PipelineError: the loss is no longer finite, or the training images are of one class.
    """
    _check_images(job, examples)
    _check_batches(job, params)
    run = start(job, params, len(_steps(job, examples, params, torch.Generator())))
    weights = _class_weights(params, examples).to(job.fabric.device)
    if checkpoint is not None:
        is_first = job.fabric.is_global_zero  # the only one that has the file
        state = job.fabric.broadcast(checkpoint.load() if is_first else None)
        resume.restore(run, state)
    yield from run.history
    while not run.ended:
        yield from _epoch(run, examples, weights, on_step)
        if checkpoint is not None:
            resume.save(run, checkpoint)
        on_epoch_end(max(run.epoch, math.ceil(run.history[-1].epoch)))
    job.suffix.load_state_dict(run.best)


def _check_images(job: Job, examples: Examples) -> None:
    devices, smallest = job.fabric.world_size, min(map(len, map(examples.rows, ("train", "val"))))
    if not smallest:
        raise PipelineError("train or val has no images: see split.val, or data/split.csv")
    if smallest < devices:
        raise PipelineError(
            f"{devices} devices train together, but train or val has {smallest} images: lower "
            "device.devices or device.nodes"
        )
    labels = np.unique(examples.labels[examples.rows("train")].numpy())
    present = [examples.classes[label] for label in labels]
    if len(present) < 2:
        raise PipelineError(
            f"the training images are all of one class ({', '.join(present)}): a classifier needs "
            "two or more"
        )


def _check_batches(job: Job, params: TrainParams) -> None:
    norms = any(isinstance(layer, _BatchNorm) for layer in job.suffix.modules())
    per_device, devices = 2 if norms else 1, job.fabric.world_size
    if params.batch_size < per_device * devices:
        why = ", because a BatchNorm that trains needs two images per device" if norms else ""
        raise PipelineError(
            f"train.batch_size={params.batch_size} is too small{why} ({devices} train together): "
            f"use {per_device * devices} or more"
        )


def _steps(
    job: Job, examples: Examples, params: TrainParams, order: torch.Generator
) -> list[list[Rows]]:
    """The steps of an epoch, each of one or more batches of rows, in random order."""
    train = examples.rows("train")
    shuffled = train[torch.randperm(len(train), generator=order).numpy()]
    least = 2 * job.fabric.world_size  # BatchNorm needs two per device, in the last batch too
    batches = feature_store.chunks(shuffled, params.batch_size, least)
    size = params.accumulate
    return [batches[start : start + size] for start in range(0, len(batches), size)]


def _epoch(
    run: Training, examples: Examples, weights: Tensor, on_step: Callable[[float], None]
) -> Iterator[Record]:
    """One pass over the training images; yields its validations, the last one at its end."""
    job, every = run.job, run.params.validate_every
    steps = _steps(job, examples, run.params, run.order)
    shares = [_share(job, rows) for step in steps for rows in step]
    inputs = job.source.batches(shares, job.index.view_of(run.epoch))
    batches = zip(inputs, _labels(job, examples, shares), strict=True)
    sums = _Sums(job.fabric)
    run.module.train()
    for number, step in enumerate(steps, start=1):
        rate = run.raw_optimizer.param_groups[0]["lr"]
        _step(run, step, batches, weights, sums)
        progress = round(run.epoch + number / len(steps), 6)
        on_step(progress)
        if number == len(steps) or (every and run.step % every == 0):
            record = Record(run.step, progress, rate, *sums.take(), *_validate(run, examples))
            _update(run, record)
            yield record
            if run.ended:
                return
            run.module.train()
    run.epoch += 1
    run.ended = run.epoch == run.params.epochs


def _share(job: Job, rows: Rows) -> Rows:
    """This device's share of a batch."""
    return rows[job.fabric.global_rank :: job.fabric.world_size]


def _labels(job: Job, examples: Examples, order: Sequence[Rows]) -> Sequence[Tensor]:
    """The labels of each array of rows, on the device: copied at once, or each step would wait."""
    labels = examples.labels[np.concatenate(order)].to(job.fabric.device)
    return torch.split(labels, [len(rows) for rows in order])


def _step(
    run: Training,
    step: Sequence[Rows],
    batches: Iterator[tuple[Tensors, Tensor]],
    weights: Tensor,
    sums: _Sums,
) -> None:
    """One step of the optimizer over one or more batches."""
    fabric, params = run.job.fabric, run.params
    images = sum(map(len, step))
    run.optimizer.zero_grad()
    for number in range(1, len(step) + 1):
        inputs, labels = next(batches)
        with fabric.no_backward_sync(run.module, enabled=number < len(step)):
            scores = run.module(*inputs)
            loss = functional.cross_entropy(
                scores, labels, weights, reduction="sum", label_smoothing=params.label_smoothing
            )
            # Gradients are averaged over devices, so multiply by their number.
            fabric.backward(loss * (fabric.world_size / images))
        sums.add(loss.detach(), scores.detach(), labels)
    if params.clip_norm is not None:
        fabric.clip_gradients(
            run.module, run.optimizer, max_norm=params.clip_norm, error_if_nonfinite=False
        )
    run.optimizer.step()
    run.schedule.after_step()
    run.step += 1


def _class_weights(params: TrainParams, examples: Examples) -> Tensor:
    """(C,) The weight of an image of each class; 1 on average over the training images."""
    count = torch.bincount(
        examples.labels[examples.rows("train")], minlength=len(examples.classes)
    ).float()
    if params.class_weights == "none":
        return torch.ones(len(count))
    return count.sum() / (len(count) * count.clamp(min=1))


@torch.no_grad()
def _validate(run: Training, examples: Examples) -> tuple[float, float]:
    """Loss and accuracy on the validation set."""
    run.module.eval()
    size = max(run.params.batch_size, run.job.fabric.world_size)
    chunks = feature_store.chunks(examples.rows("val"), size, run.job.fabric.world_size)
    shares = [_share(run.job, rows) for rows in chunks]
    sums = _Sums(run.job.fabric)
    batches = run.job.source.batches(shares, EVALUATION)
    for inputs, labels in zip(batches, _labels(run.job, examples, shares), strict=True):
        scores = run.module(*inputs).float()
        sums.add(functional.cross_entropy(scores, labels, reduction="sum"), scores, labels)
    return sums.take()


def _update(run: Training, record: Record) -> None:
    """Keep the best weights, and decide whether the training ends."""
    if not (math.isfinite(record.train_loss) and math.isfinite(record.val_loss)):
        raise PipelineError(
            f"the loss is not finite in epoch {math.ceil(record.epoch)}: {how_to_stop(run.params)}"
        )
    if record.val_loss < run.lowest:
        run.best, run.stale = weights_of(run.job.suffix), 0
    else:
        run.stale += 1
    run.history.append(record)
    run.schedule.after_validation(record.val_loss)
    target, patience = run.params.target_accuracy, run.params.patience
    run.ended = (target is not None and record.val_accuracy >= target) or (
        patience is not None and run.stale >= patience
    )
