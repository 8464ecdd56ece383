"""A trained model's home on disk: weights without pickle, and a card that says what they are."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.network import backbones, heads, tensors
from pipeline.network.views import Preprocess
from pipeline.params import HeadParams

MACRO = "macro"


class Card(BaseModel):
    """model.json: enough to build the network and feed it, without params.yaml."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    format: Literal[2] = 2
    backbone: str
    options: dict[str, bool]
    """Keyword arguments of torchvision's builder."""
    head: HeadParams
    replaced: str
    """The module that the head took the place of."""
    trained_from: str
    """The module training began at, "" for the whole network."""
    classes: list[str]
    """In the order of the outputs."""
    max_megapixels: float
    """Of an image, past which it is not decoded."""
    store_side: int
    """Shorter side, in pixels, that images are scaled down to first, as the filter does."""
    preprocess: Preprocess
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Of what runs before `trained_from`, as features.precision has it."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """What the scores are divided by before their softmax, so that probabilities mean it."""
    fingerprint: str
    """Digest of everything that the training run depended on."""


def save(directory: Path, network: nn.Module, card: Card) -> None:
    """Replace `directory` by model.safetensors and model.json."""
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        tensors.write(staged / "model.safetensors", network.state_dict())
        (staged / "model.json").write_text(json.dumps(card.model_dump(), indent=2) + "\n")


def read_card(directory: Path) -> Card:
    """What `save` wrote of the network.

    Raises:
        PipelineError: there is none, or it is damaged.
    """
    with _sound(directory):
        return Card.model_validate_json((directory / "model.json").read_bytes())


def load(directory: Path) -> tuple[nn.Module, Card]:
    """The network that `save` wrote, in evaluation mode, and its card.

    Raises:
        PipelineError: there is none, or its files are damaged or do not belong together.
    """
    card = read_card(directory)
    size = card.preprocess.size
    with _sound(directory):
        network = backbones.blank(card.backbone, card.options, size, seed=0).network
        heads.replace(network, card.replaced, card.head, len(card.classes), size, seed=0)
        network.load_state_dict(load_file(directory / "model.safetensors"))
    return network.eval(), card


@contextmanager
def _sound(directory: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PipelineError(
            f"no model in {directory}: `dvc repro` trains one, or name its folder"
        ) from error
    except (
        ValidationError,
        SafetensorError,
        RuntimeError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(f"the model in {directory} is damaged: {why}") from error


def classes_of(labels: Sequence[str]) -> list[str]:
    """The classes in the order of the network's outputs: sorted by name.

    Raises:
        PipelineError: one is called as averages over all classes are.
    """
    classes = sorted(set(labels))
    if MACRO in classes:
        raise PipelineError(
            f"a class is called {MACRO!r}, as averages over the classes are: rename its folder"
        )
    return classes
