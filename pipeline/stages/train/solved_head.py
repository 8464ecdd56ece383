"""A head that is solved in closed form or by convex optimisation, instead of trained by steps."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.core import project
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.network import feature_store, scoring
from pipeline.network.evaluated_suffix import last_layer, pool
from pipeline.network.examples import Examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.model_folder import Solution
from pipeline.network.views import EVALUATION
from pipeline.params import Params
from pipeline.solvers import ridge
from pipeline.solvers.linear import LinearClassifier, log_losses
from pipeline.solvers.problem import Numbers, Problem
from pipeline.solvers.ridge import RidgeFit
from pipeline.stages.train.state import Job

if TYPE_CHECKING:
    from pipeline.solvers.logistic import LogisticFit

MAX_MEMORY = 2**30  # bytes of rows; more are in a temporary file
MAX_DIFFERENCE = 1e-3  # of the network's scores from the solution's, relative to the largest

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SolvedHead:
    """A head with its weights set."""

    solution: Solution
    record: Record
    """Its one validation; as the figures of training, those of cross-validation."""


def solve(
    job: Job, head: nn.Module, examples: Examples, groups: Numbers, params: Params
) -> SolvedHead:
    """Fit the head's linear layer to the training images, and set its weights.

    All stored views of an image are rows, and with the images of its group they are never divided
    between fitting and judging, which is by the evaluation view alone.

    Args:
        groups: (N,) The group of each image of split.csv.

    Raises:
        PipelineError: features are not stored, more than one linear layer would have to be fitted,
            or the images do not allow a fit.
    """
    layer = last_layer(head)
    _check_suffix(job, layer, params)
    rows, views = examples.rows("train"), _views(job)
    with _table((len(rows) * len(views), layer.weight.shape[1])) as table:
        for number, view in enumerate(views):
            _fill(table[number * len(rows) :], job, layer, rows, view)
        fit = _fit(table, examples, groups, rows, len(views), params)
    _set_weights(layer, fit.classifier, params)
    _check_scores(job, layer, fit.classifier, rows, params)
    judged = groups[rows[fit.out_of_group.rows]]
    solution = Solution(
        penalty=fit.penalty,
        penalties=len(fit.path.penalties),
        log_loss=fit.out_of_group.log_loss,
        accuracy=fit.out_of_group.accuracy,
        images=len(judged),
        groups=len(np.unique(judged)),
    )
    return SolvedHead(solution, _validate(job, examples, solution))


def _views(job: Job) -> list[int]:
    """The evaluation view, then the augmented ones."""
    return [EVALUATION, *range(1, job.index.views + 1)]


def _check_suffix(job: Job, layer: nn.Module, params: Params) -> None:
    kind = params.head.kind
    if not job.index.stored:
        raise PipelineError(
            f"head.kind={kind} is solved from stored features, but there are none "
            f"({job.index.why}): raise features.max_gigabytes, or set head.kind=linear"
        )
    others = set(job.suffix.parameters()) - set(layer.parameters())
    if others:
        raise PipelineError(
            f"head.kind={kind} is solved for one linear layer, but model.trainable="
            f"{params.model.trainable} has more to train: set model.trainable=head, or "
            "head.kind=linear"
        )


@contextmanager
def _table(shape: tuple[int, int]) -> Iterator[Values]:
    """Zeros, in memory or in a file that is removed."""
    if 4 * shape[0] * shape[1] <= MAX_MEMORY:
        yield np.zeros(shape, np.float32)
        return
    with tempfile.TemporaryDirectory(dir=project.cache()) as folder:
        yield np.memmap(Path(folder, "rows"), np.float32, "w+", shape=shape)


@torch.no_grad()
def _fill(table: Values, job: Job, layer: nn.Module, rows: Rows, view: int) -> None:
    """Write the inputs of the last layer, (len(rows), D), at the start of `table`."""
    start = 0

    def write(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal start
        values = pool(inputs[0]).cpu().numpy()
        table[start : start + len(values)] = values
        start += len(values)

    handle = layer.register_forward_pre_hook(write)
    job.suffix.eval()
    try:
        chunks = feature_store.chunks(rows, job.source.sub_batch)
        for inputs in job.source.batches(chunks, view):
            job.suffix(*inputs)
    finally:
        handle.remove()


def _fit(
    table: Values, examples: Examples, groups: Numbers, rows: Rows, views: int, params: Params
) -> "RidgeFit | LogisticFit":
    problem = Problem.of(
        table,
        np.tile(examples.labels.numpy()[rows], views),
        np.tile(groups[rows], views),
        len(examples.classes),
        is_balanced=params.train.class_weights == "balanced",
        is_judged=np.arange(len(table)) < len(rows),
    )
    penalty = params.train.penalty
    candidates = None if penalty is None else np.array([penalty])
    if params.head.kind == "ridge":
        return ridge.fit(problem, candidates)
    from pipeline.solvers import logistic  # scipy, which takes a third of a second to import

    return logistic.fit(problem, candidates)


@torch.no_grad()
def _set_weights(
    layer: nn.Linear | nn.Conv2d, classifier: LinearClassifier, params: Params
) -> None:
    weights, bias = torch.from_numpy(classifier.weights), torch.from_numpy(classifier.bias)
    if params.head.one_logit:
        weights, bias = weights[1:] - weights[:1], bias[1:] - bias[:1]
    layer.weight.copy_(weights.reshape(layer.weight.shape))
    assert layer.bias is not None
    layer.bias.copy_(bias)


def _check_scores(
    job: Job, layer: nn.Module, classifier: LinearClassifier, rows: Rows, params: Params
) -> None:
    """Refuse a network that changes what its last layer returns, as squeezenet's ReLU does."""
    few = rows[: job.source.sub_batch]
    inputs = np.zeros((len(few), classifier.weights.shape[1]), np.float32)
    _fill(inputs, job, layer, few, EVALUATION)
    expected = classifier.scores(inputs.astype(np.float64))
    if params.head.one_logit:
        expected -= expected[:, :1]
    scores = scoring.logits(job.suffix, job.source, few).numpy()
    if abs(scores - expected).max() > MAX_DIFFERENCE * max(1.0, abs(expected).max()):
        raise PipelineError(
            f"head.kind={params.head.kind}: the network changes what its last layer returns, so a "
            "solution for that layer is not one for the network: set head.kind=linear"
        )


def _validate(job: Job, examples: Examples, solution: Solution) -> Record:
    rows = examples.rows("val")
    with job.fabric.autocast():
        scores: Tensor = scoring.logits(job.suffix, job.source, rows)
    labels = examples.labels[rows].numpy()
    values = scores.double().numpy()
    return Record(
        step=1,
        epoch=1.0,
        lr=0.0,
        train_loss=solution.log_loss,
        train_accuracy=solution.accuracy,
        val_loss=float(log_losses(values, labels).mean()),
        val_accuracy=float((values.argmax(axis=1) == labels).mean()),
    )
