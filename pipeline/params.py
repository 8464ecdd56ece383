"""params.yaml as typed, frozen, strict values: one class per section, cut by who reads it.

Every value stands in params.yaml, none here: a missing key is an error, like an unknown one.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import PipelineError

AS_DESCRIBED = "datasets"  # of dataset.source: DVC cannot follow a path that is null

Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Dataset(Section):
    """Which images. Read by acquire."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """The folder under datasets/ that describes the data set."""
    source: Annotated[str, Field(min_length=1)]
    """A folder, archive or CSV list to take instead of what dataset.toml names. The value
    `datasets` means "where dataset.toml says" (DVC follows this path, so it must always exist)."""


class Acquire(Section):
    """How bytes are fetched. Read by acquire."""

    workers: Annotated[int, Field(ge=1, le=256)]
    """Photographs that are asked for at the same time."""
    per_host_per_second: Annotated[float, Field(ge=0)] | None
    """Most requests to one host in a second. 0: no limit; null: 10 for Flickr's photographs, 1 for
    its searches, none for others. A host that answers 429 is left alone for as long as it says."""
    max_missing_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Share of the listed or wanted photographs that may be gone; past it the stage fails."""
    respect_robots: bool
    """Whether a photograph whose X-Robots-Tag says noai or noimageai is left out."""
    allow_private: bool
    """Whether a URL may lead to a private or loopback address (a mirror at home, a test)."""
    max_gigabytes: Annotated[float, Field(gt=0)]
    """Largest download, and largest sum of unpacked members, in 10^9 bytes."""
    max_file_megabytes: Annotated[float, Field(gt=0, le=1000)]
    """Files larger than this, in 10^6 bytes, are left out and counted: they are not photographs."""


class Filter(Section):
    """What is kept, and how it is stored. Read by filter."""

    min_side: Positive
    """Shortest side, in pixels, below which an image is too small."""
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    """Size, in 10^6 pixels by the header, past which an image is never decoded."""
    store_side: Positive
    """Images are stored with their shorter side scaled down to this many pixels."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=6)] | None
    """Images whose perceptual hashes differ in at most this many of 64 bits are near-duplicates.
    0: in none; null: none are looked for."""
    near_duplicates: Literal["keep", "keep_one"]
    """Whether all of a group stay, or of each label the first that would test, validate or train.
    Those that stay are never dealt to different splits."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)]
    """Share of rejected images past which the stage fails."""

    @model_validator(mode="after")
    def _sides(self) -> Self:
        if self.min_side > self.store_side:
            raise ValueError(
                f"filter.min_side ({self.min_side}) must not exceed store_side ({self.store_side})"
            )
        return self


class Split(Section):
    """Who trains, validates and tests. Read by split."""

    seed: Seed
    """Salt of the hash that deals images to splits."""
    val: float | int
    """Share of the images that are dealt, per class in expectation, that validates; or, as a whole
    number, exactly so many of each class."""
    test: float | int
    """Share, or number of each class, that tests. Not used where the source prescribes its test
    set, nor with folds."""
    train: Positive | None
    """With exact numbers: how many of each class train, the rest left out; null: all others."""
    prescribed: bool
    """Whether the splits that the source prescribes stand; those that it lacks are dealt."""
    folds: Annotated[int, Field(ge=2, le=100)] | None
    """Deal into this many folds, of which one tests; null: no folds."""
    fold: Annotated[int, Field(ge=0)]
    """Which fold tests, counted from 0."""
    leaks: Literal["drop", "fail"]
    """What happens where the source prescribes several splits for one group: the copies in train
    (or val) are left out, or the stage fails. Both say which."""

    @property
    def exact(self) -> bool:
        """Whether `val`, `test` and `train` are numbers of images."""
        return isinstance(self.val, int)

    @model_validator(mode="after")
    def _shares_or_numbers(self) -> Self:
        for key in ("val", "test"):
            value = getattr(self, key)
            if not (value >= 1 if isinstance(value, int) else 0 < value < 1):
                raise ValueError(
                    f"split.{key} = {value}, but should be a share between 0 and 1, or a whole "
                    "number of images per class"
                )
        if isinstance(self.val, int) != isinstance(self.test, int):
            raise ValueError(
                f"split.val = {self.val} and split.test = {self.test}: both should be shares, or "
                "both whole numbers of images per class"
            )
        return self

    @model_validator(mode="after")
    def _modes_fit(self) -> Self:
        if not self.exact and self.val + self.test >= 1:
            raise ValueError(
                f"split.val + split.test is {self.val + self.test:g}, but should be below 1, or "
                "nothing trains"
            )
        if self.train is not None and not self.exact:
            raise ValueError(
                f"split.train = {self.train} goes with whole numbers for split.val and split.test: "
                "set these, or split.train=null"
            )
        if self.folds is not None and (self.exact or self.fold >= self.folds):
            raise ValueError(
                f"split.fold = {self.fold} should be below split.folds = {self.folds}"
                if self.fold >= self.folds
                else f"split.folds = {self.folds} deals by shares: set split.val and split.test to "
                "such as 0.15, or split.folds=null"
            )
        return self


class Images(Section):
    """What the network sees. Read by features and train."""

    size: Annotated[int, Field(ge=16, le=2048)]
    """Side of the square the network sees, in pixels."""
    normalise: Literal["weights", "none"]
    """Mean and standard deviation of the weights' own recipe, or values in 0..1 as they are."""
    augment: Literal["crop-flip", "none"]
    """Random resized crop and horizontal flip for training views, or the evaluation view alone."""


class Model(Section):
    """The network and where it is cut. Read by features and train."""

    backbone: Annotated[str, Field(min_length=1)]
    """A torchvision classifier, by name."""
    weights: Annotated[str, Field(min_length=1)]
    """`imagenet`, `none`, or the path of a state dict (.pth, .pt or .safetensors). DVC does not
    follow this path: give changed weights a new name."""
    trainable: Annotated[str, Field(min_length=1)]
    """`head`, `all`, or a module's name: it and everything that runs after it is trained."""


class Features(Section):
    """The cache of what the frozen part computes. Read by features and train."""

    seed: Seed
    """Seeds the augmented views, and the backbone where `model.weights` is `none`."""
    views: Annotated[int, Field(ge=0, le=100)]
    """Augmented views per training image, beside the evaluation view."""
    dtype: Literal["float32", "float16"]
    """How activations are stored."""
    max_gigabytes: Annotated[float, Field(ge=0)]
    """Size, in 10^9 bytes, past which activations are computed inside the loop instead."""


class Head(Section):
    """What replaces the network's last layer. Read by train."""

    kind: Literal["linear"]


class Train(Section):
    """The loop. Read by train."""

    seed: Seed
    """Seeds the head's first weights and the order of the images."""
    epochs: Positive
    batch_size: Positive
    """Images per step."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    """Learning rate, constant over the run."""
    weight_decay: Annotated[float, Field(ge=0)]
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None
    """Stop once the validation accuracy reaches this; null trains all epochs."""


class Evaluate(Section):
    """What the report shows. Read by evaluate."""

    samples: Annotated[int, Field(ge=1, le=100)]
    """Test images in the picture of sample predictions."""


class Device(Section):
    """What computes. Read by features, train and evaluate."""

    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """As lightning-fabric names them."""


class Params(Section):
    dataset: Dataset
    acquire: Acquire
    filter: Filter
    split: Split
    images: Images
    model: Model
    features: Features
    head: Head
    train: Train
    evaluate: Evaluate
    device: Device

    @model_validator(mode="after")
    def _views_need_augmentation(self) -> Self:
        if self.images.augment == "none" and self.features.views:
            raise ValueError(
                f"features.views is {self.features.views} while images.augment is none: "
                "set features.views=0, or images.augment=crop-flip"
            )
        return self

    def flat(self) -> dict[str, object]:
        """Every value by its dotted name, as `dvc exp run -S` and MLflow write it."""
        return {
            f"{section}.{key}": value
            for section, values in self.model_dump().items()
            for key, value in values.items()
        }


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a whole params file.

    Raises:
        PipelineError: naming the first key that is wrong, its value and what is allowed.
    """
    try:
        # DVC reads YAML 1.2 with ruamel; PyYAML would take 1e-3 for text and `no` for false.
        values = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is missing: run this in the project's folder") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse(values, str(path))


def parse(values: object, source: str = "params") -> Params:
    """Check plain values, as `load` does for a file called `source`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise PipelineError(f"{source}: {_sentence(error.errors()[0])}") from error


def _sentence(error: ErrorDetails) -> str:
    key = ".".join(str(part) for part in error["loc"][:2])  # what follows is which type was tried
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            known = _known_keys(error["loc"][:-1])
            close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            return f"{key} = {error['input']!r} is not a known key{hint}: {', '.join(known)}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return message
    _, _, allowed = message.partition(" should ")
    return f"{key or 'the file'} = {error['input']!r}, but should {allowed}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Params
    for part in location:
        nested = model.model_fields[str(part)].annotation
        assert isinstance(nested, type)
        assert issubclass(nested, BaseModel)
        model = nested
    return list(model.model_fields)


def with_overrides(params: Params, overrides: Mapping[str, Any]) -> Params:
    """`params` with dotted names set anew, checked again."""
    values = params.model_dump()
    for name, value in overrides.items():
        section, key = name.split(".")
        values[section][key] = value
    return parse(values)
