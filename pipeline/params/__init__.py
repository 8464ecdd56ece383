"""params.yaml as typed, frozen, strict values: a class per section.

The code has no defaults: a missing key is an error, like an unknown one.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError
from pipeline.params.data import (
    AS_DESCRIBED,
    AcquireParams,
    DatasetParams,
    FilterParams,
    SplitParams,
)
from pipeline.params.section import Section
from pipeline.params.training import (
    AbstentionParams,
    DeviceParams,
    EvaluateParams,
    FeaturesParams,
    HeadParams,
    ImagesParams,
    ModelParams,
    TrainParams,
)

__all__ = [
    "AS_DESCRIBED",
    "AbstentionParams",
    "AcquireParams",
    "DatasetParams",
    "DeviceParams",
    "EvaluateParams",
    "FeaturesParams",
    "FilterParams",
    "HeadParams",
    "ImagesParams",
    "ModelParams",
    "Params",
    "SplitParams",
    "TrainParams",
    "first_error",
    "load_params",
    "parse_params",
    "with_overrides",
]


class Params(Section):
    dataset: DatasetParams
    acquire: AcquireParams
    filter: FilterParams
    split: SplitParams
    images: ImagesParams
    model: ModelParams
    features: FeaturesParams
    head: HeadParams
    train: TrainParams
    abstention: AbstentionParams
    evaluate: EvaluateParams
    device: DeviceParams

    @model_validator(mode="after")
    def _views_need_augmentation(self) -> Self:
        if self.images.augment == "none" and self.features.views:
            raise ValueError(
                f"features.views is {self.features.views} while images.augment is none: "
                "set features.views=0, or images.augment=crop-flip"
            )
        return self

    @model_validator(mode="after")
    def _solved_head_is_alone(self) -> Self:
        kind = self.head.kind
        if self.head.is_solved and self.model.trainable != "head":
            raise ValueError(
                f"head.kind = {kind!r} is solved for one layer, but model.trainable = "
                f"{self.model.trainable!r} trains others too: set model.trainable=head, or "
                "head.kind=linear"
            )
        if self.head.is_solved and self.device.devices * self.device.nodes > 1:
            raise ValueError(
                f"head.kind = {kind!r} is solved in one process: set device.devices=1 and "
                "device.nodes=1, or head.kind=linear"
            )
        return self

    @model_validator(mode="after")
    def _stored_images_are_large_enough(self) -> Self:
        stored, images = self.filter.store_side, self.images
        if max(images.size, images.resize or 0) > stored:
            key, value = (
                ("size", images.size) if images.size > stored else ("resize", images.resize)
            )
            # Without images.resize the weights decide: at most 8/7 of the size, in most families.
            enough = images.resize or -(-images.size * 8 // 7)
            raise ValueError(
                f"images.{key} = {value}, but filter.store_side = {stored}: images would be stored "
                f"smaller and then enlarged; set filter.store_side={enough}, or lower images.{key}"
            )
        return self

    def flat(self) -> dict[str, object]:
        """All values by dotted name, such as train.lr, as in `dvc exp run -S` and in MLflow."""
        return {
            f"{section}.{key}": value
            for section, values in self.model_dump().items()
            for key, value in values.items()
        }


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a whole params file.

    Raises:
        PipelineError: the message has the first wrong key, its value and the allowed values.
    """
    try:
        # As DVC does: YAML 1.2 with ruamel. PyYAML reads 1e-3 as text and `no` as false.
        values = YAML(typ="safe").load(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is missing: run this in the project's folder") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse_params(values, str(path))


def parse_params(values: object, source: str = "params") -> Params:
    """Check plain values; error messages name `source`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise PipelineError(f"{source}: {first_error(error, Params)}") from error


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first wrong key of a `model`, its value and the allowed values."""
    return _sentence(error.errors()[0], model)


def _sentence(error: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"][:2])  # pydantic appends the type
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            keys = _known_keys(error["loc"][:-1], model)
            close = difflib.get_close_matches(str(error["loc"][-1]), keys, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            return f"{key} = {error['input']!r} is not a known key{hint}: {', '.join(keys)}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return message
    _, _, allowed = message.partition(" should ")
    if not allowed:  # it is not JSON
        return f"{key or 'the file'} is {message[:1].lower()}{message[1:]}"
    return f"{key or 'the file'} = {error['input']!r}, but should {allowed}"


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location:
        nested = model.model_fields[str(part)].annotation
        assert isinstance(nested, type)
        assert issubclass(nested, BaseModel)
        model = nested
    return list(model.model_fields)


def with_overrides(params: Params, overrides: Mapping[str, Any]) -> Params:
    """A checked copy of `params` with other values, by dotted name."""
    values = params.model_dump()
    for name, value in overrides.items():
        section, key = name.split(".")
        values[section][key] = value
    return parse_params(values)
