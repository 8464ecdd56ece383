"""The results of memos that machines share, in the cache that PIPELINE_CACHE names.

For each shard and memo it has one file with the results of all its images, named by the digest of
their keys, which any machine with the shard can compute. Results of other data sets are not read,
and a million images are a thousand files. Memos stay on the machine's own disk, in front of it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.terminal import warn
from pipeline.distributed.shared_cache import SharedCache
from pipeline.images.key_index import KeySet
from pipeline.images.mapping import selected_keys
from pipeline.images.memo import KEY, Memo

GROUP = 64  # shards whose files are asked for, or written, at the same time
MAX_BYTES = 2**28  # of results that are written at the same time
DIGEST_BYTES = hashlib.sha256().digest_size  # of the rest of a file, at its start
SUFFIX = ".results"
NamedKeys = tuple[str, pa.Array]  # the name of a shard's file, and the keys of its images


class DamagedResultsError(Exception):
    """A file has other contents than were written."""


@dataclass(frozen=True)
class SharedSelection:
    """The images whose results a memo has or is to have."""

    memo: Memo
    ids: KeySet | None = None
    """None for all."""


class SharedResults:
    """The results of some memos in a shared cache; without one, nothing is done."""

    def __init__(
        self, cache: SharedCache | None, title: str, selections: Sequence[SharedSelection]
    ) -> None:
        """`title` is shown while files are read or written."""
        self._cache, self._title, self._selections = cache, title, selections
        self._sizes = {
            selection.memo.name: cache.sizes(selection.memo.name) if cache else {}
            for selection in selections
        }

    def fetch(self, paths: Sequence[Path]) -> None:
        """Copy results of these shards that the memos lack from the cache.

        Raises:
            PipelineError: the cache cannot be read.
            OSError: likewise, for a folder.
        """
        for selection in self._selections if self._cache else ():
            if sizes := self._sizes[selection.memo.name]:
                with bar(f"{self._title}: fetch", len(paths), "shard") as progress:
                    for group in _groups(_named_keys(paths, selection)):
                        self._fetch_group(selection.memo, dict(group), sizes)
                        progress.update(len(group))

    def lacking(self, paths: Sequence[Path]) -> list[Path]:
        """The shards with images of which a memo lacks a result."""
        return [
            path
            for path in paths
            if any(
                selection.memo.missing(selected_keys(path, selection.ids)).any()
                for selection in self._selections
            )
        ]

    def offer(self, paths: Sequence[Path]) -> None:
        """As `publish`, with a warning if that is not possible: the memos have the results."""
        try:
            self.publish(paths)
        except (PipelineError, OSError) as error:
            warn(f"{self._title}: other machines do not get the results: {error}")

    def publish(self, paths: Sequence[Path]) -> None:
        """Write results of these shards that the cache does not have yet.

        Raises:
            PipelineError: the cache cannot be written.
            OSError: likewise, for a folder.
        """
        for selection in self._selections if self._cache else ():
            sizes = self._sizes[selection.memo.name]
            with bar(f"{self._title}: publish", len(paths), "shard") as progress:
                for group in _groups(_named_keys(paths, selection)):
                    self._publish_group(selection.memo, dict(group), sizes)
                    progress.update(len(group))

    def _fetch_group(self, memo: Memo, keys_of: dict[str, pa.Array], sizes: dict[str, int]) -> None:
        assert self._cache is not None
        lacking = {
            name: sizes[name]
            for name, keys in keys_of.items()
            if name in sizes and memo.missing(keys).any()
        }
        for name, content in self._cache.read(memo.name, lacking):
            try:
                results = _decode(content, memo.schema, keys_of[name])
            except DamagedResultsError as error:
                del sizes[name]  # it is written again
                warn(f"{memo.name}/{name} in the shared cache is damaged ({error}): computed again")
                continue
            memo.add(results.filter(columns.booleans(memo.missing(results.column(0)))))

    def _publish_group(
        self, memo: Memo, keys_of: dict[str, pa.Array], sizes: dict[str, int]
    ) -> None:
        assert self._cache is not None
        files: dict[str, bytes] = {}
        for name, keys in keys_of.items():
            if name in sizes:
                continue
            remembered = keys.filter(columns.booleans(memo.remembers(keys)))
            if len(remembered):
                files[name] = _encode(remembered, memo.get(remembered))
            if sum(map(len, files.values())) > MAX_BYTES:
                self._write(memo, files, sizes)
                files = {}
        self._write(memo, files, sizes)

    def _write(self, memo: Memo, files: dict[str, bytes], sizes: dict[str, int]) -> None:
        assert self._cache is not None
        if files:
            self._cache.write(memo.name, files)
            sizes |= {name: len(content) for name, content in files.items()}


def _named_keys(paths: Iterable[Path], selection: SharedSelection) -> Iterator[NamedKeys]:
    """The name of the file of each shard, and the keys of its images."""
    for path in paths:
        keys = selected_keys(path, selection.ids)
        if len(keys):
            digest = hashlib.sha256("\n".join(keys.to_pylist()).encode())
            yield digest.hexdigest() + SUFFIX, keys


def _groups(files: Iterator[NamedKeys]) -> Iterator[list[NamedKeys]]:
    return iter(lambda: list(islice(files, GROUP)), [])


def _encode(keys: pa.Array, results: pa.RecordBatch) -> bytes:
    table = results.add_column(0, KEY, keys)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    content: bytes = sink.getvalue().to_pybytes()
    return hashlib.sha256(content).digest() + content


def _decode(content: bytes, schema: pa.Schema, keys: pa.Array) -> pa.RecordBatch:
    """The rows of a file: a key and its results.

    Raises:
        DamagedResultsError: they are not results of this schema for some of `keys`.
    """
    digest, rest = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(rest).digest() != digest:
        raise DamagedResultsError("other bytes than were written")
    try:
        with pa.ipc.open_stream(rest) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedResultsError(error) from error
    if table.schema != pa.schema([KEY, *schema]):
        raise DamagedResultsError("other columns")
    batch = table.combine_chunks().to_batches()[0]
    names = batch.column(0)
    if names.null_count or len(names.unique()) < len(names) or not _are_in(names, keys):
        raise DamagedResultsError("other images")
    return batch


def _are_in(names: pa.Array, keys: pa.Array) -> bool:
    return bool(columns.mask(pc.is_in(names, keys)).all())
