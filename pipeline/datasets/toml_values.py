"""Types of the values in dataset.toml, with their checks."""

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.core.addresses import is_url
from pipeline.core.unicode import to_nfc
from pipeline.datasets.licences import LICENCES
from pipeline.datasets.path_pattern import PathPattern

SplitName = Literal["train", "val", "test"]


# Flickr's sizes by letter -> longer side in pixels. For the original, "o", it is a guess.
FLICKR_SIDES = {
    "sq": 75,
    "t": 100,
    "q": 150,
    "s": 240,
    "n": 320,
    "w": 400,
    "m": 500,
    "z": 640,
    "c": 800,
    "l": 1024,
    "h": 1600,
    "k": 2048,
    "o": 4096,
}


def _one_of(allowed: Collection[str]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
        return value

    return AfterValidator(check)


def check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a class that is listed twice."""
    if len(set(names)) < len(names):
        raise ValueError("a class is listed twice")
    return names


def check_keys(values: object) -> object:
    """Refuse a class that is listed twice, before its names are composed."""
    if isinstance(values, dict) and len(set(map(to_nfc, values))) < len(values):
        raise ValueError("a class is listed twice, in two Unicode forms of its name")
    return values


def normalise_splits(splits: dict[str, SplitName]) -> dict[str, SplitName]:
    """The names as they are compared: in lower case, in NFC."""
    normalised = {to_nfc(name).lower(): split for name, split in splits.items()}
    if len(normalised) < len(splits):
        raise ValueError("two names of splits differ only in case or in their Unicode form")
    return normalised


def check_pattern(pattern: str) -> str:
    """Refuse what is no `PathPattern`."""
    PathPattern(pattern)
    return pattern


def check_no_url(path: str) -> str:
    """Refuse a URL, as http has no folders that can be listed."""
    if is_url(path):
        raise ValueError(
            f"{path!r} is a URL, of which only an archive or a list can be read: write "
            'kind = "archive" with url, or kind = "urls" with path'
        )
    return path


def check_encoding(name: str) -> str:
    """Refuse an encoding that Python does not know."""
    try:
        "".encode(name)
    except LookupError as error:
        raise ValueError(f"{name!r} is no encoding, such as utf-16 or windows-1252") from error
    return name


ClassName = Annotated[str, Field(min_length=1), AfterValidator(to_nfc)]
LicenceName = Annotated[str, _one_of(LICENCES)]
FlickrSize = Annotated[str, _one_of(FLICKR_SIDES)]
