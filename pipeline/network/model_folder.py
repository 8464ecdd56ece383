"""The folder of a trained model: model.safetensors, and model.json, its card.

abstention.safetensors is beside them where the model can abstain.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.core import atomic
from pipeline.core.errors import REPAIR, PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.network import backbones, heads, tensors, torchvision_models, weights
from pipeline.network.abstention import Abstention, AbstentionRule, Distance
from pipeline.network.views import Preprocess
from pipeline.params import HeadParams, first_error
from pipeline.params.section import Megapixels, Positive, Section

MACRO = "macro"
DISTANCE = "abstention.safetensors"


Name = Annotated[str, Field(min_length=1)]
EngineName = Annotated[str, Field(pattern=r"^(|torch|openvino [0-9a-z.+-]+)$")]


class Solution(Section):
    """How the weights of a solved head were found, and what cross-validation says of them."""

    penalty: Annotated[float, Field(gt=0)]
    """As train.penalty."""
    penalties: Positive
    """How many were compared."""
    log_loss: Annotated[float, Field(ge=0)]
    """Mean, in nats, of training images whose group the fit did not have."""
    accuracy: Annotated[float, Field(ge=0, le=1)]
    """Of the same images."""
    images: Positive
    groups: Positive


class Card(Section):
    """model.json: enough to build the network and its input without params.yaml."""

    format: Literal[2] = 2
    backbone: Name
    options: dict[str, bool]
    """Keyword arguments of torchvision's builder."""
    head: HeadParams
    replaced: Name
    """The module that the head replaces."""
    trained_from: str
    """The first module that was trained, "" for the whole network."""
    classes: Annotated[list[Name], Field(min_length=2)]
    """In the order of the outputs, in Unicode's composed form (NFC)."""
    max_megapixels: Megapixels
    """Larger images are not decoded."""
    store_side: Positive
    """Shorter side, in pixels, to which images are scaled down first, as in stage filter. It may
    be below `preprocess.resize`: older versions trained such models."""
    preprocess: Preprocess
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Of the modules before `trained_from`, as features.precision."""
    engine: EngineName = "torch"
    """What computed these modules' outputs, as Index.engine."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Divisor of the scores before their softmax, which calibrates the probabilities."""
    solution: Solution | None = None
    """Of a solved head; None for one that was trained, as in older versions."""
    fingerprint: str
    """Digest of everything that the training depended on."""
    abstention: Abstention | None = None
    """What the model promises when it abstains; None if nothing, as in older versions."""
    deviation: str = ""
    """How the images differ from those that the data set describes, a clause; "" if they do not."""

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        composed = [to_nfc(name) for name in names]
        if len(set(composed)) < len(composed):
            raise ValueError(f"classes = {names}, but should have no name twice")
        return composed


def save(
    directory: Path, network: nn.Module, card: Card, rule: AbstentionRule | None = None
) -> None:
    """Replace `directory` by model.safetensors and model.json, and write the rule, if any, too."""
    promises = rule.abstention if rule else None
    card = card.model_copy(update={"abstention": promises})
    with atomic.replacing(directory) as staged:
        staged.mkdir()
        tensors.write(staged / "model.safetensors", network.state_dict())
        (staged / "model.json").write_text(json.dumps(card.model_dump(), indent=2) + "\n")
        if rule is not None:
            tensors.write(staged / DISTANCE, rule.distance.state_dict())


def read_card(directory: Path) -> Card:
    """The card of a model folder.

    Raises:
        PipelineError: there is none, or it is damaged.
    """
    with _damage_as_sentence(directory):
        return Card.model_validate_json((directory / "model.json").read_bytes())


def load(directory: Path) -> tuple[nn.Module, Card]:
    """The network of a model folder, in evaluation mode, and its card.

    Raises:
        PipelineError: there is none, or its files are damaged or do not fit together.
    """
    card = read_card(directory)
    size = card.preprocess.size
    with _damage_as_sentence(directory):
        _check_options(card)
        network = backbones.blank(card.backbone, card.options, size, seed=0).network
        if card.replaced not in dict(network.named_modules()):
            raise ValueError(f"{card.backbone} has no module {card.replaced}")
        heads.replace(network, card.replaced, card.head, len(card.classes), size, seed=0)
        network.load_state_dict(load_file(directory / "model.safetensors"))
        weights.check_finite(network)
    return network.eval(), card


def load_abstention(directory: Path, card: Card) -> AbstentionRule | None:
    """The rule by which the model of a folder abstains; None if it promises nothing.

    Raises:
        PipelineError: its file is missing or damaged.
    """
    if card.abstention is None:
        return None
    with _damage_as_sentence(directory):
        distance = Distance(load_file(directory / DISTANCE))
        return AbstentionRule(card.abstention, distance).eval()


def _check_options(card: Card) -> None:
    names = torchvision_models.options(card.backbone, imagenet=True).keys()
    if card.options.keys() != names:
        raise ValueError(f"options of {card.backbone} are {list(names)}, not {list(card.options)}")


@contextmanager
def _damage_as_sentence(directory: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PipelineError(
            f"no model in {directory}: `dvc repro` trains one, or name its folder"
        ) from error
    except ValidationError as error:
        why = f"model.json: {first_error(error, Card)}"
        raise PipelineError(f"the model in {directory} is damaged: {why}; {REPAIR}") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(f"the model in {directory} is damaged: {why}; {REPAIR}") from error


def classes_of(labels: Sequence[str]) -> list[str]:
    """The classes in the order of the network's outputs: sorted by name.

    Raises:
        PipelineError: a class has the name of the averages over all classes.
    """
    classes = sorted(set(labels))
    if MACRO in classes:
        raise PipelineError(
            f"the class name {MACRO!r} is reserved for averages over classes: rename its folder"
        )
    return classes
