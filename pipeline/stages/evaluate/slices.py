"""Slices of the test set: images that may be harder or easier than the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns, shards
from pipeline.core.columns import Column
from pipeline.core.split_csv import read_split
from pipeline.core.terminal import printable
from pipeline.core.unicode import to_nfc
from pipeline.stages.evaluate.metrics import Selected

LEAKED = "leaked"
MAX_SOURCES = 8  # folders, and licences, with the most images


@dataclass(frozen=True)
class ImageFacts:
    """What the clean shards and split.csv hold about N images, their pixels aside: columns."""

    labels: Column
    groups: Column
    """Texts that images share which must be in one split, "" for an image on its own."""
    is_near: Selected
    """(N,) Whether an image has near-duplicates."""
    is_leaked: Selected
    """(N,) Whether images of its group were trained or validated on (`split.leaks=keep`)."""
    sides: npt.NDArray[np.int32]
    """(N,) The shorter side of each image, in pixels."""
    names: Column
    """Paths in the source."""
    licences: Column
    """Null where none is stated."""

    def __len__(self) -> int:
        return len(self.sides)


def read_facts(clean: Path, split_csv: Path, ids: pa.StringArray) -> ImageFacts:
    """Facts of the test images `ids`, in their order."""
    names = ["id", "near_group", "width", "height", "label", "name", "licence"]
    table = _select(shards.columns(clean, names), ids)
    rows = read_split(split_csv)
    others = rows.groups.filter(pc.not_equal(rows.splits, "test")).unique()
    rows = rows.where(pc.is_in(rows.ids, value_set=ids))
    groups = rows.groups.take(_places(ids, rows.ids))
    is_leaked = columns.mask(pc.is_in(groups, value_set=others))
    return ImageFacts(
        labels=table.column("label"),
        groups=groups,
        is_near=columns.mask(table.column("near_group").is_valid()),
        is_leaked=is_leaked & columns.mask(pc.not_equal(groups, "")),
        sides=columns.numbers(pc.min_element_wise(table.column("width"), table.column("height"))),
        names=table.column("name"),
        licences=table.column("licence"),
    )


def _select(table: pa.Table, ids: pa.StringArray) -> pa.Table:
    """The rows `ids` of a table, in their order."""
    # Without the others first: taking rows of a column joins its chunks.
    table = table.filter(pc.is_in(table.column("id"), value_set=ids))
    return table.take(_places(ids, table.column("id")))


def _places(ids: pa.StringArray, among: Column) -> pa.Array:
    return shards.array(columns.positions(ids, among))


def slices(images: ImageFacts, input_side: int) -> dict[str, Selected]:
    """Which of the images are in each slice, by its name; slices of all or no images are left out.

    Sliced by leaks, by near-duplicates, by images smaller than the network's input, by folder and
    by licence.

    Args:
        input_side: Of the network's input, before it is cropped, in pixels.
    """
    is_small = images.sides < input_side
    candidates = {
        LEAKED: images.is_leaked,
        f"not_{LEAKED}": ~images.is_leaked,
        "near_duplicates": images.is_near,
        "no_near_duplicates": ~images.is_near,
        "enlarged": is_small,
        "not_enlarged": ~is_small,
    }
    candidates |= _by_source("folder", _folders(images))
    candidates |= _by_source("licence", columns.iterate(images.licences))
    return {name: mask for name, mask in candidates.items() if 0 < mask.sum() < len(images)}


def _by_source(kind: str, sources: Iterator[str | None]) -> dict[str, Selected]:
    """Slices of the `MAX_SOURCES` most frequent sources of the images."""
    codes, names = columns.encode_sorted(columns.collect(source or "none" for source in sources))
    largest = np.argsort(-np.bincount(codes), kind="stable")[:MAX_SOURCES]
    return {f"{kind} {printable(names[code])}": codes == code for code in largest}


def _folders(images: ImageFacts) -> Iterator[str]:
    """The folders between class folder and image: of a camera, say, or of a visit."""
    rows = zip(columns.iterate(images.names), columns.iterate(images.labels), strict=True)
    for name, label in rows:
        # Labels are in NFC, the names of files as they are.
        folders = PurePosixPath(to_nfc(name)).parent.parts
        yield "/".join(folders[folders.index(label) + 1 :]) if label in folders else ""
