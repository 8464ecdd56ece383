"""Slices of the test set: images that may be harder or easier than the rest."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.compute as pc

from pipeline.core import columns, shards
from pipeline.core.split_csv import read_split
from pipeline.core.terminal import printable
from pipeline.network.model_folder import Card
from pipeline.stages.evaluate.metrics import Selected

MAX_SOURCES = 8  # folders, and licences, with the most images


@dataclass(frozen=True)
class ImageFacts:
    """What the clean shards and split.csv hold about an image, its pixels aside."""

    label: str
    group: str
    """Shared by images that must be in one split, "" for an image on its own."""
    near_group: str | None
    """Shared by near-duplicates."""
    width: int
    height: int
    name: str
    """Path in the source."""
    licence: str | None


def read_facts(clean: Path, split_csv: Path, ids: Sequence[str]) -> list[ImageFacts]:
    """Facts of the images `ids`, in their order."""
    names = ["id", "near_group", "width", "height", "label", "name", "licence"]
    table = shards.columns(clean, names)
    table = table.filter(pc.is_in(table["id"], value_set=columns.texts(ids)))
    rows = {row.pop("id"): row for row in table.to_pylist()}
    groups = {row.id: row.group for row in read_split(split_csv) if row.id in rows}
    return [ImageFacts(group=groups[key], **rows[key]) for key in ids]


def slices(images: Sequence[ImageFacts], card: Card) -> dict[str, Selected]:
    """Which of the images are in each slice, by its name; slices of all or no images are left out.

    Sliced by near-duplicates, by images smaller than the network's input, by folder and by licence.
    """
    near = np.array([image.near_group is not None for image in images])
    side = card.preprocess.resize
    small = np.array([min(image.width, image.height) < side for image in images])
    candidates = {
        "near_duplicates": near,
        "no_near_duplicates": ~near,
        "enlarged": small,
        "not_enlarged": ~small,
    }
    candidates |= _by_source("folder", [_folder(image) for image in images])
    candidates |= _by_source("licence", [image.licence for image in images])
    return {name: mask for name, mask in candidates.items() if 0 < mask.sum() < len(images)}


def _by_source(kind: str, sources: Sequence[str | None]) -> dict[str, Selected]:
    """Slices of the `MAX_SOURCES` most frequent sources."""
    values = np.array([source or "none" for source in sources])
    names, counts = np.unique(values, return_counts=True)
    largest = np.argsort(-counts, kind="stable")[:MAX_SOURCES]
    return {f"{kind} {printable(names[index])}": values == names[index] for index in largest}


def _folder(image: ImageFacts) -> str:
    """The folders between the class folder and the image: of a camera, say, or of a visit."""
    # Labels are in NFC, the names of files as they are.
    folders = PurePosixPath(unicodedata.normalize("NFC", image.name)).parent.parts
    return "/".join(folders[folders.index(image.label) + 1 :]) if image.label in folders else ""
