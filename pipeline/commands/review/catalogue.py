"""The images that a person may look at, with what makes them worth a look."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import columns, shards
from pipeline.core.shards import SPLITS, array
from pipeline.core.split_csv import read_split

Rows = npt.NDArray[np.int64]
LEFT_OUT = "left out"


class FlagKind(StrEnum):
    """What makes an image worth a look, in the order in which a person should look."""

    LABEL = "label"
    OUTLIER = "outlier"
    LOW_16_BIT = "low_16_bit"
    BLURRED = "blurred"
    DARK = "dark"
    OVEREXPOSED = "overexposed"
    LITTLE_DETAIL = "little_detail"
    ODD_SHAPE = "odd_shape"


NAMES = {
    FlagKind.LABEL: "label may be wrong",
    FlagKind.OUTLIER: "unlike the others",
    FlagKind.LOW_16_BIT: "16 bits, few used",
    FlagKind.BLURRED: "blurred",
    FlagKind.DARK: "dark",
    FlagKind.OVEREXPOSED: "over-exposed",
    FlagKind.LITTLE_DETAIL: "little detail",
    FlagKind.ODD_SHAPE: "odd shape",
}


@dataclass(frozen=True)
class Flags:
    """The images of one kind, the clearest case first."""

    ids: Sequence[str]
    notes: Sequence[str]
    """What was measured, for people."""
    classes: Sequence[str] = ()
    """The class that each looks like; only of `FlagKind.LABEL`."""


@dataclass(frozen=True)
class Entry:
    """An image in the list."""

    row: int
    id: str
    name: str
    label: str
    split: str
    notes: tuple[str, ...]
    looks_like: str
    """A class, or ""."""


@dataclass(frozen=True)
class Filter:
    """Which images to list; None is any."""

    kind: FlagKind | None = None
    label: str | None = None
    split: str | None = None
    everything: bool = False
    """Whether to list images without a flag too, instead of those of a kind."""
    hidden_ids: Collection[str] = field(default_factory=frozenset)
    """Ids to leave out."""


class Catalogue:
    """The accepted images, and the flags of some of them."""

    def __init__(self, clean: Path, split_csv: Path, flags: Mapping[FlagKind, Flags]) -> None:
        """Read the tables.

        Raises:
            PipelineError: the stages have not run.
        """
        self._table = shards.columns(clean, ["id", "name", "label"])
        self._label_codes, self.classes = columns.encode_sorted(self._table.column("label"))
        self._split_codes = _read_splits(split_csv, self._table.column("id"))
        self._flagged: dict[FlagKind, Rows] = {}
        self._notes: dict[int, list[str]] = {}
        self._looks_like: dict[int, str] = {}
        for kind in FlagKind:
            self._add(kind, flags.get(kind, Flags([], [])))

    def _add(self, kind: FlagKind, flags: Flags) -> None:
        places = self.rows_of(flags.ids)
        self._flagged[kind] = places[places >= 0]
        for row, note in zip(places.tolist(), flags.notes, strict=True):
            self._notes.setdefault(row, []).append(note)
        self._looks_like |= dict(zip(places.tolist(), flags.classes, strict=False))

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def splits(self) -> list[str]:
        """Those that have images, in their order."""
        names = [*SPLITS, LEFT_OUT]
        return [names[code] for code in np.unique(self._split_codes).tolist()]

    @property
    def counts(self) -> dict[FlagKind, int]:
        """The number of flagged images by kind."""
        return {kind: len(rows) for kind, rows in self._flagged.items()}

    @property
    def flagged_count(self) -> int:
        """The number of flagged images."""
        return len(self._notes)

    def rows_of(self, ids: Sequence[str]) -> Rows:
        """The row of each id, -1 where there is none."""
        places = columns.positions(columns.texts(ids), self._table.column("id"))
        return places.astype(np.int64)

    def select(self, image_filter: Filter) -> Rows:
        """The rows of the images to list, in their order."""
        rows = self._candidates(image_filter)
        keep = np.ones(len(rows), bool)
        if image_filter.label is not None:
            keep &= self._label_codes[rows] == self.classes.index(image_filter.label)
        if image_filter.split is not None:
            keep &= self._split_codes[rows] == [*SPLITS, LEFT_OUT].index(image_filter.split)
        hidden_rows = self.rows_of(list(image_filter.hidden_ids))
        return rows[keep & ~np.isin(rows, hidden_rows)]

    def _candidates(self, image_filter: Filter) -> Rows:
        if image_filter.everything:
            return np.arange(len(self))
        if image_filter.kind is not None:
            return self._flagged[image_filter.kind]
        rows = np.concatenate(list(self._flagged.values()))
        return rows[np.sort(np.unique(rows, return_index=True)[1])]

    def entries(self, rows: Rows) -> list[Entry]:
        """Some images as objects."""
        names = [*SPLITS, LEFT_OUT]
        return [
            Entry(
                row,
                **image,
                split=names[self._split_codes[row]],
                notes=tuple(self._notes.get(row, ())),
                looks_like=self._looks_like.get(row, ""),
            )
            for row, image in zip(
                rows.tolist(), self._table.take(array(rows)).to_pylist(), strict=True
            )
        ]


def _read_splits(split_csv: Path, ids: pa.ChunkedArray) -> Rows:
    """The position of each image's split in `SPLITS`, or after the last if it is in none."""
    table = read_split(split_csv)
    places = columns.positions(ids, table.ids)
    codes = columns.positions(table.splits, columns.texts(SPLITS))
    return np.append(codes, len(SPLITS))[places].astype(np.int64)
