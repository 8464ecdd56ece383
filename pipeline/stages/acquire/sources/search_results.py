"""The results of a search in columns, and what became of each: some 400 bytes per photograph."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.shards import array
from pipeline.datasets.toml_values import SplitName
from pipeline.stages.acquire import photo_list
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import RowTable, iterate
from pipeline.stages.acquire.web.content_store import StoredBody

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

REASONS = list(SkipReason)  # a reason's outcome is its position
FETCHED, NOT_TRIED = -1, -2  # the other outcomes
PHOTO = pa.schema(dict.fromkeys(photo_list.COLUMNS, pa.string()))
RESULT = np.dtype(
    [
        ("split", np.int8),  # position in the names of splits
        ("outcome", np.int8),
        # Of the stored bytes, once they are fetched.
        ("sha256", "S64"),
        ("pack", "S32"),
        ("start", np.int64),
        ("size", np.int64),
        ("opted_out", np.bool_),
    ]
)
ALLOCATED = 4096  # rows at first; twice as many when they are full


class SearchResults:
    """Photographs in the order of a search."""

    def __init__(self, splits: Sequence[SplitName]) -> None:
        self._names = splits
        self._photos = RowTable(PHOTO)
        self._allocated = np.zeros(ALLOCATED, RESULT)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def _rows(self) -> npt.NDArray[np.void]:
        return self._allocated[: self._count]

    @property
    def splits(self) -> npt.NDArray[np.int8]:
        """(N,) positions in the names of splits."""
        return self._rows["split"]

    @property
    def outcomes(self) -> npt.NDArray[np.int8]:
        """(N,) `FETCHED`, `NOT_TRIED`, or a position in `REASONS`."""
        return self._rows["outcome"]

    @property
    def digests(self) -> npt.NDArray[np.bytes_]:
        """(N,) sha256 of the bytes, in hex; empty where they were not fetched."""
        return self._rows["sha256"]

    def ids(self) -> pa.ChunkedArray:
        """(N,) Ids of the photographs."""
        return self._photos.table().column("id")

    def append(self, photo: Photo, split: SplitName) -> None:
        """Add a photograph whose owner is in `split`."""
        if self._count == len(self._allocated):
            self._allocated = np.concatenate([self._allocated, np.zeros_like(self._allocated)])
        self._photos.append(*(getattr(photo, name) for name in photo_list.COLUMNS))
        self._allocated["split"][self._count] = self._names.index(split)
        self._allocated["outcome"][self._count] = NOT_TRIED
        self._count += 1

    def record(self, row: int, outcome: StoredBody | SkipReason) -> None:
        """Say what fetching a photograph gave."""
        if isinstance(outcome, SkipReason):
            self._rows["outcome"][row] = REASONS.index(outcome)
            return
        self._rows["outcome"][row] = FETCHED
        for name, value in vars(outcome).items():
            self._rows[name][row] = value

    def photos(self, rows: Rows, with_split: bool = True) -> Iterator[Photo]:
        """Yield some photographs, with their splits."""
        table = self._photos.table()
        for start in range(0, len(rows), columns.CHUNK):
            part = rows[start : start + columns.CHUNK]
            cells = iterate(table.take(array(part)))
            for row, values in zip(part, cells, strict=True):
                photo = Photo(**dict(zip(photo_list.COLUMNS, values, strict=True)))
                split = self._names[self.splits[row]] if with_split else photo.split
                yield photo.model_copy(update={"split": split})

    def bodies(self, rows: Rows) -> Iterator[StoredBody]:
        """Yield where the bytes of some fetched photographs are."""
        for row in rows:
            _, _, sha256, pack, start, size, opted_out = self._rows[row].item()
            yield StoredBody(sha256.decode(), pack.decode(), start, size, opted_out)
