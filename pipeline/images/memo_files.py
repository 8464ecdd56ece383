"""Files of a memo: Arrow files that are named by the sha256 of their bytes and never change.

Files are merged as they grow in number: of files with a similar number of rows there are fewer
than FAN_OUT, so a result is written again a few times, and ten million results lie in some hundred
files. A merged file names the files that it replaces, because a kill may leave both.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import atomic, file_digests
from pipeline.images.key_index import UInt64Array, digest_keys

FAN_OUT = 16  # files of a similar number of rows that are merged into one
MAX_BYTES = 2**31  # of a merged file; one of half that size is not merged again
BATCH_BYTES = 2**26  # of a record batch of a merged file: merging takes twice that memory
MERGING = "merging"  # the merged file until its digest, and so its name, is known

# In the metadata of a file's schema.
_REPLACED = b"replaced"  # names of files, separated by spaces
_KEYS = b"keys"  # `_sum` of the keys' digests


class DamagedFileError(Exception):
    """A file has other bytes than were written."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


@dataclass(eq=False)
class MemoFile:
    """A file whose keys have been read, but not its results."""

    path: Path
    size: int  # bytes
    digests: list[UInt64Array]
    """Of its keys, by record batch; empty once they are in an index."""
    replaced: frozenset[str] = frozenset()
    """Names of the files that were merged into this one."""
    is_checked: bool = False
    """Whether its bytes have the digest in its name; only then may its results be read."""
    is_gone: bool = False
    """Whether another process has merged it."""
    rows: int = field(init=False)
    numbers: range = field(init=False)
    """Numbers of its batches, set by the reader."""

    def __post_init__(self) -> None:
        self.rows = sum(map(len, self.digests))
        self.numbers = range(0)


def open_file(path: Path, schema: pa.Schema) -> MemoFile:
    """Read the keys of a file.

    It is not mapped into memory: there, a bad block of the disk would kill the process.

    Raises:
        FileNotFoundError: it does not exist.
        DamagedFileError: it is not an Arrow file, or has other columns or keys than were written.
    """
    try:
        size = path.stat().st_size
        with pa.OSFile(str(path)) as file:
            written = pa.ipc.open_file(file).schema
            if written != schema:
                raise DamagedFileError(path, "other columns")
            options = pa.ipc.IpcReadOptions(included_fields=[0])
            reader = pa.ipc.open_file(file, options=options)
            digests = [_digests(reader.get_batch(n)) for n in range(reader.num_record_batches)]
        metadata = written.metadata or {}
        replaced = frozenset(metadata[_REPLACED].decode().split())
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DamagedFileError(path, error) from error
    if metadata.get(_KEYS) != _sum(digests):
        raise DamagedFileError(path, "other keys than were written")
    return MemoFile(path, size, digests, replaced)


def _digests(batch: pa.RecordBatch) -> UInt64Array:
    keys = batch.column(0)
    keys.validate(full=True)
    return digest_keys(keys)


def _sum(digests: Iterable[UInt64Array]) -> bytes:
    return str(sum(int(part.sum(dtype=np.uint64)) for part in digests) % 2**64).encode()


def load_batches(path: Path) -> list[pa.RecordBatch]:
    """Map the record batches of a file into memory.

    Raises:
        FileNotFoundError: it does not exist.
    """
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def check_files(files: Sequence[MemoFile]) -> list[MemoFile]:
    """Hash files, as many at a time as there are cores; return the damaged ones.

    The others get `is_checked`, or `is_gone` if they do not exist.
    """

    def check(file: MemoFile) -> None:
        try:
            file.is_checked = file_digests.sha256(file.path) == file.path.stem
        except FileNotFoundError:
            file.is_gone = True
        except OSError:
            file.is_checked = False

    with ThreadPoolExecutor() as pool:
        list(pool.map(check, files))
    return [file for file in files if not file.is_checked and not file.is_gone]


def write_file(directory: Path, batch: pa.RecordBatch) -> MemoFile:
    """Write the rows of one batch."""
    digests = [digest_keys(batch.column(0))]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _with_metadata(batch.schema, digests, ())) as writer:
        writer.write_batch(batch)
    content = sink.getvalue()
    path = directory / f"{hashlib.sha256(content).hexdigest()}.arrow"
    with atomic.replacing(path) as staged:
        staged.write_bytes(content)
    return MemoFile(path, content.size, digests, is_checked=True)


def select_for_merge(files: Iterable[MemoFile]) -> list[MemoFile]:
    """Files of a similar number of rows to merge now; none if they are few."""
    tiers: dict[int, list[MemoFile]] = {}
    for file in files:
        if not file.is_gone and file.size <= MAX_BYTES // 2:
            tiers.setdefault(int(math.log(max(file.rows, 1), FAN_OUT)), []).append(file)
    for _, tier in sorted(tiers.items()):
        if len(tier) >= FAN_OUT:
            sizes = np.cumsum([file.size for file in tier])
            return tier[: max(2, int(np.searchsorted(sizes, MAX_BYTES, side="right")))]
    return []


def write_merged(
    directory: Path, batches: Sequence[pa.RecordBatch], replaced: Iterable[MemoFile]
) -> MemoFile:
    """Write all rows of several files, in order; only one process at a time may do so.

    Args:
        batches: Those of the files.
    """
    digests = [digest_keys(batch.column(0)) for batch in batches]
    names = frozenset(file.path.name for file in replaced)
    with (
        atomic.replacing(directory / MERGING) as staged,
        pa.OSFile(str(staged), "wb") as sink,
        pa.ipc.new_file(sink, _with_metadata(batches[0].schema, digests, names)) as writer,
    ):
        parts = list(_group(batches))
        for start, end in parts:
            writer.write_batch(_join(batches[start:end]))
    path = directory / f"{file_digests.sha256(directory / MERGING)}.arrow"
    (directory / MERGING).replace(path)
    atomic.sync_name(path)
    part_digests = [np.concatenate(digests[start:end]) for start, end in parts]
    return MemoFile(path, path.stat().st_size, part_digests, names, is_checked=True)


def _group(batches: Sequence[pa.RecordBatch]) -> Iterator[tuple[int, int]]:
    """Yield the first and end of groups of at most `BATCH_BYTES`, or one batch."""
    start = size = 0
    for end, batch in enumerate(batches):
        if end > start and size + batch.nbytes > BATCH_BYTES:
            yield start, end
            start, size = end, 0
        size += batch.nbytes
    yield start, len(batches)


def _join(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _with_metadata(
    schema: pa.Schema, digests: Iterable[UInt64Array], replaced: Iterable[str]
) -> pa.Schema:
    names = " ".join(sorted(replaced))
    return schema.with_metadata({_KEYS: _sum(digests), _REPLACED: names.encode()})
