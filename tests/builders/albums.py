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
    """What decides where an image goes."""

    id: str
    label: str = "cat"
    owner: str | None = None
    like: str | None = None
    """What it shows: images of the same are near-duplicates."""
    said: str | None = None


CHOSEN = split_params()

Dealt = dict[str, str | None]


def read(album: Sequence[Photo]) -> tuple[list[Image], list[Any]]:
    """As the clean shards have them: near-duplicates are named after the smallest id of them."""
    of: dict[str | None, list[str]] = {}
    for photo in album:
        of.setdefault(photo.like, []).append(photo.id)
    near = [
        min(of[photo.like]) if photo.like and len(of[photo.like]) > 1 else None for photo in album
    ]
    images = [
        Image(photo.id, f"{photo.id}.png", photo.label, photo.said, name)
        for photo, name in zip(album, near, strict=True)
    ]
    return images, find_groups(
        [photo.id for photo in album], [photo.owner for photo in album], near
    )


def assign_album(
    album: Sequence[Photo], params: SplitParams, before: Mapping[str, str | None] = {}
) -> Dealt:
    images, found = read(album)
    was = {row: name for row, image in enumerate(images) if (name := before.get(image.id))}
    splits = assignment.assign(found, images, params, was)
    return {photo.id: name for photo, name in zip(album, splits, strict=True)}


def count_shares(splits: Sequence[str | None]) -> dict[str | None, float]:
    return {name: count / len(splits) for name, count in Counter(splits).items()}


def singles(count: int, said: str | None = None, start: int = 0) -> list[Photo]:
    return [
        Photo(f"{number:05d}", ("cat", "dog")[number % 2], said=said)
        for number in range(start, start + count)
    ]
