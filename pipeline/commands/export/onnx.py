"""Export the model as one ONNX file: views of images in, calibrated probabilities out."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.network import model_folder, scoring
from pipeline.network.abstention import AbstentionRule
from pipeline.network.evaluated_suffix import capture_inputs, captured_inputs
from pipeline.network.model_folder import Card
from pipeline.network.views import Views

INPUT, OUTPUT = "images", "probabilities"
SETS = ["set", "none_of_these"]  # outputs of a model that can abstain
OPSET = 18
TOLERANCE = 1e-4  # of a probability
FAR_TOLERANCE = 1e-2  # of a squared distance, relative
SIZES = (1, 7, 16, 3)  # of the compared batches, in turn


class ProbabilityModel(nn.Module):
    """uint8 (B, 3, S, S) -> calibrated probabilities, float32 (B, C)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = network
        self.temperature = card.temperature
        self.register_buffer("mean", 255 * torch.tensor(card.preprocess.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(card.preprocess.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network((images.float() - self.mean) / self.std)
        return scoring.calibrated(scores, self.temperature)


class AbstainingModel(nn.Module):
    """uint8 (B, 3, S, S) -> probabilities, sets, bool (B, C), and whether far, bool (B,)."""

    def __init__(self, whole: ProbabilityModel, rule: AbstentionRule, replaced: str) -> None:
        """`replaced` is the name of the module in the network that has the last layer."""
        super().__init__()
        self.whole, self.rule = whole, rule
        capture_inputs(whole.network.get_submodule(replaced))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        probabilities: Tensor = self.whole(images)
        sets, are_far = self.rule(probabilities, captured_inputs())
        return probabilities, sets, are_far


def export(models: Path, destination: Path, views: Views | None) -> float:
    """Write the model of the folder `models` as ONNX, if onnxruntime agrees with torch.

    Args:
        views: The images to compare them on; None for noise.

    Returns:
        The largest difference between two probabilities.

    Raises:
        PipelineError: the network cannot be exported, or the two differ.
    """
    network, card = model_folder.load(models)
    model, rule = ProbabilityModel(network, card), model_folder.load_abstention(models, card)
    whole = (AbstainingModel(model, rule, card.replaced) if rule else model).eval()
    with atomic.replacing(destination) as staged:
        _write(whole, card, staged)
        return _check(whole, staged, views, card)


def _write(whole: nn.Module, card: Card, path: Path) -> None:
    side = card.preprocess.size
    example = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with warnings.catch_warnings(action="ignore"), _quiet():
        try:
            torch.onnx.export(
                whole,
                (example,),
                str(path),
                input_names=[INPUT],
                output_names=[OUTPUT, *(SETS if card.abstention else [])],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        except torch.onnx.OnnxExporterError as error:
            why = " ".join(str(error).split())[:200]
            raise PipelineError(f"{card.backbone} cannot be exported to ONNX ({why})") from error
    model = onnx.load(path)
    facts = {
        "classes": card.classes,
        "preprocess": card.preprocess.model_dump(),
        "fingerprint": card.fingerprint,
        **({"abstention": card.abstention.model_dump()} if card.abstention else {}),
    }
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    onnx.save(model, path)


def _check(whole: nn.Module, path: Path, views: Views | None, card: Card) -> float:
    """The largest difference of a probability."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for images in _batches(views, card.preprocess.size):
        with torch.inference_mode():
            outputs = whole(images)
        computed = outputs if isinstance(outputs, tuple) else (outputs,)
        expected = computed[0].numpy()
        values, *sets = session.run(None, {INPUT: images.numpy()})
        if not (np.isfinite(expected).all() and np.isfinite(values).all()):
            raise PipelineError(
                "the model gives probabilities that are not numbers: train it again; nothing was "
                "exported"
            )
        worst = max(worst, float(np.abs(values - expected).max()))
        is_other_class = (values.argmax(axis=1) != expected.argmax(axis=1)).any()
        if is_other_class or worst > TOLERANCE:
            raise PipelineError(
                f"onnxruntime and torch differ by {worst:.2g} in a probability ({TOLERANCE:g} is "
                f"allowed){', and in a class' if is_other_class else ''}: nothing was exported"
            )
        if isinstance(whole, AbstainingModel):
            _check_sets(whole, *computed, *map(torch.from_numpy, sets))
    return worst


def _check_sets(
    whole: AbstainingModel,
    probabilities: Tensor,
    expected_sets: Tensor,
    expected_far: Tensor,
    sets: Tensor,
    far: Tensor,
) -> None:
    """Raise PipelineError if answers differ on an image that is not at a threshold.

    It was the last that `whole` computed.
    """
    promises, distances = whole.rule.abstention, whole.rule.distance(captured_inputs())
    limits = probabilities.amax(dim=1, keepdim=True).clamp(max=promises.least_probability)
    differs = (sets != expected_sets) & ((probabilities - limits).abs() > TOLERANCE)
    limit = promises.farthest or 0.0
    is_other = (far != expected_far) & ((distances - limit).abs() > FAR_TOLERANCE * limit)
    count = int((differs.any(dim=1) | is_other).sum())
    if count:
        raise PipelineError(
            f"onnxruntime and torch abstain differently on {plural(count, 'image')}: nothing was "
            "exported"
        )


def _batches(views: Views | None, side: int) -> Iterator[Tensor]:
    """Batches of several sizes."""
    if views is None:
        generator = torch.Generator().manual_seed(0)
        for size in SIZES:
            yield torch.randint(256, (size, 3, side, side), generator=generator).byte()
        return
    sizes, start = cycle(SIZES), 0
    with bar("check", len(views)) as progress:
        while start < len(views):
            end = min(start + next(sizes), len(views))
            yield torch.stack([views[index] for index in range(start, end)])
            progress.update(end - start)
            start = end


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's log of its progress."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
