import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.distributed import shared_results
from pipeline.distributed.parts import Part, check_key, compute_part, joint_key
from pipeline.distributed.shared_cache import FolderCache
from pipeline.distributed.shared_results import SharedResults, SharedSelection
from pipeline.images.key_index import KeySet
from pipeline.images.memo import Memo

SCHEMA = pa.schema({"length": pa.int64(), "stored": pa.binary()})


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards of three images each, with the ids a to h."""
    monkeypatch.setattr(writer, "ROWS", 3)
    rows = [{"id": key, "label": "x", "name": key, "bytes": key.encode()} for key in "abcdefgh"]
    shards.write(tmp_path / "raw", shards.RAW, rows)
    return tmp_path / "raw"


class Machine:
    """A machine with a memo of its own, beside others with the same shared cache."""

    def __init__(self, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "shared").mkdir(exist_ok=True)
        monkeypatch.setenv("DVC_ROOT", str(folder / name))
        self.cache = FolderCache(folder / "shared")
        self.memo = Memo("stage", "key", SCHEMA)
        self.calls: list[str] = []

    def share(self, ids: str | None = None) -> SharedResults:
        selected = None if ids is None else KeySet(columns.texts(list(ids)))
        return SharedResults(self.cache, "test", [SharedSelection(self.memo, selected)])

    def compute(self, paths: Sequence[Path]) -> None:
        """Compute what the memo lacks."""
        for path in paths:
            keys = shards.read(path).column("id")
            missing = keys.filter(columns.booleans(self.memo.missing(keys))).to_pylist()
            self.calls += missing
            if missing:
                self.memo.add(results(missing))

    def files(self) -> list[Path]:
        return sorted((self.cache._root / self.memo.name).glob("*"))


def results(keys: Sequence[str]) -> pa.RecordBatch:
    values = {"key": keys, "length": map(ord, keys), "stored": [key.encode() * 3 for key in keys]}
    columns = {name: list(column) for name, column in values.items()}
    return pa.RecordBatch.from_pydict(columns, schema=pa.schema([("key", pa.string()), *SCHEMA]))


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Machine]:
    return {name: Machine(tmp_path, name, monkeypatch) for name in ("first", "second", "third")}


def test_what_a_machine_publishes_others_need_not_compute(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    paths = shards.paths(raw)
    first, second = machines["first"], machines["second"]
    first.compute(paths)
    first.share().publish(paths)
    assert len(first.files()) == len(paths) == 3
    second.share().fetch(paths)
    second.compute(paths)
    assert second.calls == []
    keys = list("hgfedcba")
    assert second.memo.get(keys).equals(first.memo.get(keys))


def test_results_of_other_images_are_neither_read_nor_written(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    paths = shards.paths(raw)
    first, second = machines["first"], machines["second"]
    first.compute(paths)
    first.share().publish(paths[:1])
    second.share().fetch(paths[1:])
    second.compute(paths)
    assert second.calls == list("abcdefgh")
    assert len(first.files()) == 1


def test_a_selection_of_images_has_files_of_its_own(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    paths = shards.paths(raw)
    first, second, third = machines.values()
    first.compute(paths)
    first.share("ae").publish(paths)
    second.share("ae").fetch(paths)
    second.compute(paths)
    assert second.calls == list("bcdfgh")
    third.share("ab").fetch(paths)
    assert third.memo.missing(list("ab")).all()
    assert len(first.files()) == 2  # none for a shard without images of the selection


def test_only_what_is_missing_is_read(
    raw: Path, machines: Mapping[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = shards.paths(raw)
    first, second = machines["first"], machines["second"]
    first.compute(paths)
    first.share().publish(paths)
    second.compute(paths[:2])
    read: list[str] = []

    class Counting(FolderCache):
        def read(self, folder: str, sizes: Mapping[str, int]):  # type: ignore[no-untyped-def]
            read.extend(sizes)
            return super().read(folder, sizes)

    second.cache = Counting(second.cache._root)
    second.share().fetch(paths)
    assert len(read) == 1
    second.share().fetch(paths)
    assert len(read) == 1


def test_a_file_is_written_once(
    raw: Path, machines: Mapping[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = shards.paths(raw)
    first = machines["first"]
    first.compute(paths)
    shared = first.share()
    shared.publish(paths)
    monkeypatch.setattr(FolderCache, "write", None)
    shared.publish(paths)
    first.share().publish(paths)


def test_a_result_that_is_not_remembered_is_not_published(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    """Whether an image breaks its worker may depend on the machine."""
    paths = shards.paths(raw)
    first, second = machines["first"], machines["second"]
    first.memo.hold(results(["b"]))
    first.compute(paths)
    assert first.memo.remembers(list("abc")).tolist() == [True, False, True]
    first.share().publish(paths)
    second.share().fetch(paths)
    second.compute(paths)
    assert second.calls == ["b"]


def damage(content: bytes, way: str) -> bytes:
    if way == "a flipped bit":
        return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    if way == "cut off":
        return content[: len(content) // 2]
    if way == "empty":
        return b""
    rest = {
        "no Arrow": b"text",
        "other columns": b"".join([_stream(results(["a"]).select(["key", "stored"]))]),
        "other images": _stream(results(["a", "z"])),
        "an image twice": _stream(results(["a", "a"])),
        "no key": _stream(results(["a"]).set_column(0, "key", pa.nulls(1, pa.string()))),
    }[way]
    return hashlib.sha256(rest).digest() + rest


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


@pytest.mark.parametrize(
    ("way", "problem"),
    [
        ("a flipped bit", "other bytes than were written"),
        ("cut off", "other bytes than were written"),
        ("empty", "other bytes than were written"),
        ("no Arrow", ""),
        ("other columns", "other columns"),
        ("other images", "other images"),
        ("an image twice", "other images"),
        ("no key", "other images"),
    ],
)
def test_a_damaged_file_is_computed_again_and_replaced(
    raw: Path,
    machines: Mapping[str, Machine],
    capsys: pytest.CaptureFixture[str],
    way: str,
    problem: str,
) -> None:
    paths = shards.paths(raw)[:1]
    first, second, third = machines.values()
    first.compute(paths)
    first.share().publish(paths)
    (file,) = first.files()
    whole = file.read_bytes()
    file.write_bytes(damage(whole, way))
    shared = second.share()
    shared.fetch(paths)
    assert f"in the shared cache is damaged ({problem}" in capsys.readouterr().err
    second.compute(paths)
    assert second.calls == list("abc")
    shared.publish(paths)
    assert file.read_bytes() == whole
    third.share().fetch(paths)
    assert not third.memo.missing(list("abc")).any()


def test_without_a_cache_nothing_is_done(raw: Path, machines: Mapping[str, Machine]) -> None:
    first = machines["first"]
    shared = SharedResults(None, "test", [SharedSelection(first.memo)])
    shared.fetch(shards.paths(raw))
    shared.publish(shards.paths(raw))
    assert first.files() == []


def test_a_cache_that_cannot_be_written_costs_a_warning_or_a_part(
    raw: Path,
    machines: Mapping[str, Machine],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise PipelineError("PIPELINE_CACHE=s3://bucket cannot be written (AccessDenied)")

    first, paths = machines["first"], shards.paths(raw)
    first.compute(paths)
    monkeypatch.setattr(FolderCache, "write", refuse)
    first.share().offer(paths)
    assert capsys.readouterr().err == (
        "warning: test: other machines do not get the results: "
        "PIPELINE_CACHE=s3://bucket cannot be written (AccessDenied)\n"
    )
    with pytest.raises(PipelineError, match="AccessDenied"):
        compute_part(Part(1, 1), paths, first.share(), first.compute, at_once=1)


def test_files_are_written_in_bounded_batches(
    raw: Path, machines: Mapping[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_results, "MAX_BYTES", 1)
    first, paths = machines["first"], shards.paths(raw)
    first.compute(paths)
    counts: list[int] = []

    class Counting(FolderCache):
        def write(self, folder: str, files: Mapping[str, bytes]) -> None:
            counts.append(len(files))
            super().write(folder, files)

    first.cache = Counting(first.cache._root)
    first.share().publish(paths)
    assert counts == [1, 1, 1]
    assert len(first.files()) == 3


# ---- parts ----


@given(shard_count=st.integers(1, 30), count=st.integers(1, 40))
def test_parts_have_each_shard_once_and_are_of_one_size(shard_count: int, count: int) -> None:
    paths = [Path(f"{number:06}.arrow") for number in range(shard_count)]
    parts = [Part(number, count).select(paths) for number in range(1, count + 1)]
    assert sorted(path for part in parts for path in part) == paths
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1", "1/", "/3", "1/0", "-1/3", "a/b", "1/3/5", "1.5/3", "²/3"]
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(PipelineError, match="is not a part such as 2/8, the second of eight"):
        Part.parse(text)


def test_a_part_is_parsed() -> None:
    assert Part.parse("2/8") == Part(2, 8)
    assert str(Part.parse("08/08")) == "part 8 of 8"


def test_machines_that_share_parts_compute_each_image_once(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    paths = shards.paths(raw)
    first, second, third = machines.values()
    for number, machine in enumerate((first, second), 1):
        compute_part(Part(number, 2), paths, machine.share(), machine.compute, at_once=1)
    assert first.calls == list("abcgh")
    assert second.calls == list("def")
    third.share().fetch(paths)
    third.compute(paths)
    assert third.calls == []


def test_a_part_that_was_killed_loses_the_shards_in_progress_alone(
    raw: Path, machines: Mapping[str, Machine]
) -> None:
    paths = shards.paths(raw)
    first, second = machines["first"], machines["second"]

    def compute(paths: Sequence[Path]) -> None:
        if "d" in shards.read(paths[0]).column("id").to_pylist():
            raise KeyboardInterrupt
        first.compute(paths)

    with pytest.raises(KeyboardInterrupt):
        compute_part(Part(1, 1), paths, first.share(), compute, at_once=1)
    compute_part(Part(1, 1), paths, second.share(), second.compute, at_once=1)
    assert first.calls == list("abc")
    assert second.calls == list("defgh")


def test_a_machine_that_would_compute_other_results_is_refused(
    machines: Mapping[str, Machine],
) -> None:
    memo = machines["first"].memo
    check_key([memo], "")
    check_key([memo], joint_key([memo]))
    with pytest.raises(PipelineError, match=r"--key=0123 is not the key of this machine's results"):
        check_key([memo], "0123")


def test_a_joint_key_is_of_all_memos(machines: Mapping[str, Machine]) -> None:
    """The evaluation view's features are the same whatever the augmentation."""
    memos = [Memo("stage", "same", SCHEMA, "view_0"), Memo("stage", "key", SCHEMA, "view_1")]
    other = Memo("stage", "another", SCHEMA, "view_1")
    assert joint_key(memos) == joint_key(iter(memos))
    assert len({joint_key(memos), joint_key(memos[:1]), joint_key([memos[0], other])}) == 3
