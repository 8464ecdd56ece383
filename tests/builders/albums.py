"""Albums: images with owners and near-duplicates, to be assigned to splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.params import SplitParams
from pipeline.stages.split import assignment
from pipeline.stages.split.groups import find_groups
from pipeline.stages.split.images import Image
from tests.builders.params import split_params


class Photo(NamedTuple):
    """The values that decide which split an image goes to."""

    id: str
    label: str = "cat"
    owner: str | None = None
    like: str | None = None
    """The scene: images of the same scene are near-duplicates."""
    prescribed: str | None = None
    """The split that the source prescribes."""


SPLIT_PARAMS = split_params()

Splits = dict[str, str | None]


def images_and_groups(album: Sequence[Photo]) -> tuple[list[Image], list[Any]]:
    """As in the clean shards: near-duplicates are named after their smallest id."""
    ids_of: dict[str | None, list[str]] = {}
    for photo in album:
        ids_of.setdefault(photo.like, []).append(photo.id)
    near = [
        min(ids_of[photo.like]) if photo.like and len(ids_of[photo.like]) > 1 else None
        for photo in album
    ]
    images = [
        Image(photo.id, f"{photo.id}.png", photo.label, photo.prescribed, name)
        for photo, name in zip(album, near, strict=True)
    ]
    return images, find_groups(
        [photo.id for photo in album], [photo.owner for photo in album], near
    )


def assign_album(
    album: Sequence[Photo], params: SplitParams, before: Mapping[str, str | None] = {}
) -> Splits:
    images, groups = images_and_groups(album)
    previous = {row: name for row, image in enumerate(images) if (name := before.get(image.id))}
    splits = assignment.assign(groups, images, params, previous)
    return {photo.id: name for photo, name in zip(album, splits, strict=True)}


def count_shares(splits: Sequence[str | None]) -> dict[str | None, float]:
    return {name: count / len(splits) for name, count in Counter(splits).items()}


def singles(count: int, prescribed: str | None = None, start: int = 0) -> list[Photo]:
    return [
        Photo(f"{number:05d}", ("cat", "dog")[number % 2], prescribed=prescribed)
        for number in range(start, start + count)
    ]
