"""The results in the files of one folder: looked up by key, checked before use, and merged."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.plurals import plural
from pipeline.core.terminal import warn
from pipeline.images import memo_files
from pipeline.images.key_index import Int64Array, KeyIndex, digest_keys
from pipeline.images.memo_files import DamagedFileError, MemoFile

MAX_LISTINGS = 5  # of the folder, while another process replaces files
ROW_BITS = 32  # of a position; the bits above are the number of the batch
LOCK = "merge.lock"  # in the folder; held by the process that merges


class RememberedResults:
    """Rows of keys and results. Other processes may add and merge files of the same folder."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        """
        Args:
            schema: Of the files; the first column has the keys.
        """
        self.directory = directory
        self._schema = schema
        self._index = KeyIndex()
        self._batches = _BatchList(schema)
        self._files: dict[str, MemoFile] = {}  # by name
        self._file_of: dict[int, MemoFile] = {}  # by the number of a batch
        self._leftovers: set[str] = set()  # names of files that a merged file has replaced
        self.refresh()

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the rows of `batch` to a file; merge files if there are many."""
        file = memo_files.write_file(self.directory, batch)
        if file.path.name not in self._files:
            self._append(file)
            self._load(file)
        while files := memo_files.select_for_merge(self._files.values()):
            if not self._merge(files):
                break

    def hold(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of `batch` in memory only."""
        places = self._batches.append(batch.num_rows, batch)
        self._index.add(digest_keys(batch.column(0)), places)

    def locate(self, keys: pa.Array) -> Int64Array:
        """Positions of the rows with these keys; -1 where there is none.

        The files that they are in have been checked.
        """
        digests = digest_keys(keys)
        while not self._may_read(candidates := list(self._index.candidates(digests))):
            pass
        places = np.full(len(keys), -1)
        for rows, others in candidates:
            is_open = places[rows] < 0
            rows, others = rows[is_open], others[is_open]  # noqa: PLW2901
            if len(rows):
                stored = self.take(others, self._schema.names[:1]).column(0)
                is_same = _equal(stored, keys.take(shards.array(rows)))
                places[rows[is_same]] = others[is_same]
        return places

    def take(self, places: Int64Array, names: Sequence[str]) -> pa.RecordBatch:
        """Some columns of the rows at these positions, in their order."""
        return self._batches.take(places, names)

    def refresh(self) -> None:
        """Put the files that are not in the index yet into it."""
        for _ in range(MAX_LISTINGS):
            paths = [p for p in sorted(self.directory.glob("*.arrow")) if p.name not in self._files]
            with ThreadPoolExecutor() as pool:
                opened = list(pool.map(self._open, paths))
            files = [file for file in opened if isinstance(file, MemoFile)]
            all_files = [*self._files.values(), *files]
            replaced = {name for file in all_files for name in file.replaced}
            self._leftovers = replaced & {path.name for path in paths}
            for file in files:
                if file.path.name not in replaced:
                    self._append(file)
            if damaged := [file.path for file in opened if isinstance(file, DamagedFileError)]:
                self._check([], damaged)
            if None not in opened:
                break

    # ---- files ----

    def _open(self, path: Path) -> MemoFile | DamagedFileError | None:
        """None if it does not exist any more."""
        try:
            return memo_files.open_file(path, self._schema)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            return error

    def _append(self, file: MemoFile) -> None:
        """Put the keys of a file into the index."""
        digests = file.digests
        for part, places in zip(digests, self._register(file), strict=True):
            self._index.add(part, places)

    def _register(self, file: MemoFile) -> list[Int64Array]:
        """Number the batches of a file, to be read later; return the positions of their rows."""
        start = len(self._batches)
        places = [self._batches.append(len(digests)) for digests in file.digests]
        file.digests, file.numbers = [], range(start, len(self._batches))
        self._files[file.path.name] = file
        self._file_of |= dict.fromkeys(file.numbers, file)
        return places

    def _unregister(self, file: MemoFile) -> None:
        for number in file.numbers:
            self._batches.drop(number)
            del self._file_of[number]
        del self._files[file.path.name]

    def _load(self, file: MemoFile) -> None:
        """Map the batches of a checked file into memory."""
        try:
            batches = memo_files.load_batches(file.path)
        except FileNotFoundError:
            file.is_checked, file.is_gone = False, True
        else:
            for number, batch in zip(file.numbers, batches, strict=True):
                self._batches.put(number, batch)

    def _may_read(self, candidates: Iterable[tuple[Int64Array, Int64Array]]) -> bool:
        """Check the files that candidates are in; False if the index has changed thereby."""
        numbers = {number for _, places in candidates for number in _batch_numbers(places)}
        files = {self._file_of[number] for number in numbers if number in self._file_of}
        return self._check([file for file in files if not file.is_checked])

    def _check(self, files: Sequence[MemoFile], damaged: Sequence[Path] = ()) -> bool:
        """Check files and read them; False if the index has changed, because some are not sound.

        Args:
            damaged: Files that could not be opened.
        """
        checked = list(files)
        unsound = memo_files.check_files(checked)
        if unsound or damaged:  # then all are checked, for one warning
            others = [f for f in self._files.values() if not f.is_checked and f not in checked]
            unsound += memo_files.check_files(others)
            checked += others
            self._remove([*damaged, *(file.path for file in unsound)])
        for file in checked:
            if file.is_checked:
                self._load(file)
        lost = [file for file in checked if not file.is_checked]
        for file in lost:
            self._forget(file)
        if lost:  # what replaces them may be in other files
            self.refresh()
        return not lost

    def _forget(self, file: MemoFile) -> None:
        """Remove a file, and its keys from the index."""
        self._index.remove(np.concatenate(list(map(self._batches.positions, file.numbers))))
        self._unregister(file)

    def _remove(self, damaged: Sequence[Path]) -> None:
        """Remove damaged files from the folder, with a warning."""
        count = len(self._files.keys() | {path.name for path in damaged})
        for path in damaged:
            path.unlink(missing_ok=True)
        warn(
            f"the memo {self.directory} has {plural(len(damaged), 'damaged file')} of {count} "
            f"(such as {damaged[0].name}): the results are computed again"
        )

    # ---- merging ----

    def _merge(self, files: Sequence[MemoFile]) -> bool:
        """Replace files by one; False if another process merges now."""
        from filelock import FileLock, Timeout

        try:
            with FileLock(self.directory / LOCK, blocking=False):
                for file in files:
                    file.is_gone = not file.path.exists()
                is_sound = self._check([file for file in files if not file.is_checked])
                if is_sound and not any(file.is_gone for file in files):
                    self._replace(files)
                self._remove_leftovers()
        except Timeout:
            return False
        return True

    def _replace(self, files: Sequence[MemoFile]) -> None:
        """Write a file with all rows of `files`, and remove these."""
        numbers = [number for file in files for number in file.numbers]
        old = np.concatenate([self._batches.positions(number) for number in numbers])
        batches = [self._batches[number] for number in numbers]
        merged = memo_files.write_merged(self.directory, batches, files)
        digests = np.concatenate(merged.digests)
        new = np.concatenate(self._register(merged))
        self._index.move(digests, old, new)
        self._load(merged)
        for file in files:
            self._unregister(file)
            with suppress(OSError):  # Windows removes no file that a process has mapped
                file.path.unlink()

    def _remove_leftovers(self) -> None:
        """Remove files that are already merged, left by a killed process."""
        replaced = {n for file in self._files.values() if file.is_checked for n in file.replaced}
        for name in replaced & self._leftovers:
            with suppress(OSError):
                (self.directory / name).unlink()
        self._leftovers -= replaced


class _BatchList:
    """Batches of one schema, which may be read after they are added."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch | None] = []
        self._rows: list[int] = []

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> pa.RecordBatch:
        batch = self._batches[number]
        assert batch is not None, f"batch {number} has not been read, or was dropped"
        return batch

    def append(self, rows: int, batch: pa.RecordBatch | None = None) -> Int64Array:
        """Add a batch of `rows` rows, None if it is read later; return their positions."""
        self._batches.append(batch)
        self._rows.append(rows)
        return self.positions(len(self._batches) - 1)

    def put(self, number: int, batch: pa.RecordBatch) -> None:
        """Set a batch that has been read."""
        assert len(batch) == self._rows[number]
        self._batches[number] = batch

    def drop(self, number: int) -> None:
        """Free a batch; its number is not used again."""
        self._batches[number] = None

    def positions(self, number: int) -> Int64Array:
        """The positions of all rows of a batch."""
        return (number << ROW_BITS) + np.arange(self._rows[number], dtype=np.int64)

    def take(self, places: Int64Array, names: Sequence[str]) -> pa.RecordBatch:
        """Some columns of the rows at some positions, in their order."""
        order = np.argsort(places, kind="stable")
        schema = pa.schema([self._schema.field(name) for name in names])
        parts = [
            _take(self[number].select(names), rows) for number, rows in _by_batch(places[order])
        ]
        table = pa.Table.from_batches(parts, schema=schema).combine_chunks()
        if not np.array_equal(order, np.arange(len(order))):
            table = table.take(shards.array(np.argsort(order))).combine_chunks()
        return table.to_batches()[0]


def _batch_numbers(places: Int64Array) -> list[int]:
    """The numbers of the batches that rows at these positions are in."""
    numbers: list[int] = np.unique(places >> ROW_BITS).tolist()
    return numbers


def _by_batch(places: Int64Array) -> Iterator[tuple[int, Int64Array]]:
    """Yield the number of each batch and its rows, from sorted positions."""
    numbers, rows = places >> ROW_BITS, places & (2**ROW_BITS - 1)
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, part in zip(starts, np.split(rows, starts[1:]), strict=True):
        yield int(numbers[start]), part


def _take(batch: pa.RecordBatch, rows: Int64Array) -> pa.RecordBatch:
    """Rows of a batch, in ascending order; without a copy if they follow each other."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (np.diff(rows) == 1).all():
        return batch.slice(first, len(rows))
    return batch.take(shards.array(rows))


def _equal(first: pa.Array, second: pa.Array) -> npt.NDArray[np.bool_]:
    """Compare element by element. (Arrow's own conversion to numpy imports pandas.)"""
    return np.from_dlpack(pc.equal(first, second).cast(pa.uint8())).astype(bool)
