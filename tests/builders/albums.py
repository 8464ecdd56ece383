"""Albums: images with owners and near-duplicates, to be assigned to splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.params import SplitParams
from pipeline.stages.split.assignment.draw import draw_leaders
from pipeline.stages.split.assignment.groups import Group, Groups, find_groups
from pipeline.stages.split.assignment.images import Image, Images, Ranks, split_name, split_ranks
from pipeline.stages.split.assignment.modes import assign
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


def text_column(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def ranks(splits: Sequence[str | None]) -> Ranks:
    """Splits as the stage numbers them; None, and what is not a split, is -1."""
    return split_ranks(text_column(splits))


def names_of(splits: Ranks) -> list[str | None]:
    return [split_name(rank) for rank in splits.tolist()]


def images_of(images: Sequence[Image]) -> Images:
    labels, classes = columns.encode_sorted(text_column([image.label for image in images]))
    return Images(
        text_column([image.id for image in images]),
        pa.chunked_array([text_column([image.name for image in images])]),
        pa.chunked_array([text_column([image.near for image in images])]),
        labels,
        classes,
        ranks([image.split for image in images]),
    )


def groups_of(groups: Sequence[Group]) -> Groups:
    """Groups as columns; their images are numbered anew, in the order of the groups."""
    keys = [key for group in groups for key in group.keys]
    of_key = np.repeat(np.arange(len(groups)), [len(group.keys) for group in groups])
    first_keys = np.searchsorted(of_key, np.arange(len(groups)))
    key_of_row = np.repeat(first_keys, [len(group.rows) for group in groups])
    return Groups(text_column(keys), key_of_row.astype(np.int32), of_key.astype(np.int32))


def leader_of(keys: Sequence[str], seed: int) -> str:
    """The key that leads a group."""
    (leader,) = draw_leaders(groups_of([Group(list(keys))]), seed)
    return keys[int(leader)]


def album_images(album: Sequence[Photo]) -> list[Image]:
    """As in the clean shards: near-duplicates are named after their smallest id."""
    ids_of: dict[str | None, list[str]] = {}
    for photo in album:
        ids_of.setdefault(photo.like, []).append(photo.id)
    near = [
        min(ids_of[photo.like]) if photo.like and len(ids_of[photo.like]) > 1 else None
        for photo in album
    ]
    return [
        Image(photo.id, f"{photo.id}.png", photo.label, photo.prescribed, name)
        for photo, name in zip(album, near, strict=True)
    ]


def images_and_groups(album: Sequence[Photo]) -> tuple[Images, Groups]:
    images = images_of(album_images(album))
    owners = text_column([photo.owner for photo in album])
    return images, find_groups(images.ids, owners, images.near)


def assign_album(
    album: Sequence[Photo], params: SplitParams, before: Mapping[str, str | None] = {}
) -> Splits:
    images, groups = images_and_groups(album)
    previous = ranks([before.get(photo.id) for photo in album])
    splits = assign(groups, images, params, previous)
    return {photo.id: name for photo, name in zip(album, names_of(splits), strict=True)}


def count_shares(splits: Sequence[str | None]) -> dict[str | None, float]:
    return {name: count / len(splits) for name, count in Counter(splits).items()}


def singles(count: int, prescribed: str | None = None, start: int = 0) -> list[Photo]:
    return [
        Photo(f"{number:05d}", ("cat", "dog")[number % 2], prescribed=prescribed)
        for number in range(start, start + count)
    ]
