"""Export the model in MLflow's PyTorch flavour, as a traced graph, which needs none of our code.

Its archive has one pickle: torch stores the example input, a tensor, in that form. torch can read
an archive without it, but MLflow then refuses the archive where pickles are disallowed
(MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false), and accepts it with the tensor.
"""

import importlib.metadata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
import torch.fx.config
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from pipeline.commands.export.onnx import ProbabilityModel
from pipeline.commands.export.preconditions import require_new
from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.network import model_folder

REQUIRED = ("mlflow", "numpy", "torch", "torchvision")
BATCH = 2  # of the example: a graph that is traced with one image takes no other batch
TOLERANCE = 1e-4  # of a probability


def export(models: Path, destination: Path) -> float:
    """Write the model of the folder `models` to a new folder, if it computes the same as torch.

    Its input is views of images, uint8 (B, 3, S, S), RGB; and returns calibrated
    probabilities, float32 (B, classes). The classes are in the metadata of MLmodel.

    Returns:
        The largest difference between two probabilities, on noise.

    Raises:
        PipelineError: `destination` is not empty, the network cannot be traced, or the two differ.
    """
    require_new(destination)
    network, card = model_folder.load(models)
    whole = ProbabilityModel(network, card).eval()
    shape = (3, card.preprocess.size, card.preprocess.size)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, *shape))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, len(card.classes)))]),
    )
    facts = {"classes": list(card.classes), "fingerprint": card.fingerprint}
    with (
        atomic.replacing(destination) as staged,
        warnings.catch_warnings(action="ignore"),
        _without_stack_traces(),
    ):
        try:
            mlflow.pytorch.save_model(
                whole,
                str(staged),
                serialization_format="pt2",
                signature=signature,
                input_example=np.zeros((BATCH, *shape), np.uint8),
                pip_requirements=[
                    f"{name}=={importlib.metadata.version(name)}" for name in REQUIRED
                ],
                metadata=facts | {"preprocess": card.preprocess.model_dump()},
            )
        except (RuntimeError, torch._dynamo.exc.Unsupported) as error:
            why = " ".join(str(error).split())[:200]
            raise PipelineError(f"{card.backbone} cannot be traced ({why})") from error
        return _check(whole, staged, shape)


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Keep the paths of this machine, of a stack trace per node, out of traced graphs."""
    before = torch.fx.config.do_not_emit_stack_traces
    torch.fx.config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        torch.fx.config.do_not_emit_stack_traces = before


def _check(whole: torch.nn.Module, folder: Path, shape: tuple[int, ...]) -> float:
    """The largest difference of a probability, in batches of several sizes."""
    exported = mlflow.pytorch.load_model(str(folder))
    generator = torch.Generator().manual_seed(0)
    differences = []
    with torch.inference_mode():
        for size in (3, 5):
            images = torch.randint(256, (size, *shape), generator=generator).byte()
            differences.append(float((exported(images) - whole(images)).abs().max()))
    worst = float(np.max(differences))
    if not worst <= TOLERANCE:  # or it is not a number
        raise PipelineError(
            f"the traced graph and torch differ by {worst:.2g} in a probability ({TOLERANCE:g} is "
            "allowed): nothing was exported"
        )
    return worst
