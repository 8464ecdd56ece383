import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from tests.builders.clean_rows import clean_row

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROW = st.fixed_dictionaries(
    {"id": TEXT, "label": TEXT, "name": TEXT, "bytes": st.binary(max_size=30)},
    optional={
        key: st.none() | TEXT
        for key in ("split", "group", "owner", "licence", "title", "url", "page_url")
    },
)


def row(number: int, data: bytes = b"x") -> dict[str, Any]:
    return {"id": f"{number:05d}", "label": "cat", "name": f"cat/{number}.jpg", "bytes": data}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def lengths(directory: Path) -> list[int]:
    return [shards.read(path).num_rows for path in shards.paths(directory)]


@settings(derandomize=True, max_examples=30)
@given(st.lists(ROW, min_size=1, max_size=20))
def test_rows_read_back_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "raw")
        assert shards.write(directory, shards.RAW, rows) == len(rows)
        read = pa.Table.from_batches([shards.read(path) for path in shards.paths(directory)])
        empty = dict.fromkeys(shards.RAW.names)
        assert read.to_pylist() == [empty | values for values in rows]


@settings(derandomize=True, max_examples=20)
@given(st.lists(ROW, max_size=20))
def test_the_same_rows_give_the_same_bytes(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        shards.write(first, shards.RAW, rows)
        shards.write(second, shards.RAW, rows)
        assert contents(first) == contents(second)


@settings(derandomize=True, max_examples=20)
@given(st.integers(0, 2500), st.integers(0, 600))
def test_a_shard_never_exceeds_its_rows_and_more_rows_leave_full_ones_alone(
    count: int, more: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before"), Path(folder, "after")
        rows = [row(number) for number in range(count + more)]
        shards.write(before, shards.RAW, rows[:count])
        shards.write(after, shards.RAW, rows)
        sizes = lengths(after) if rows else []
        assert sum(sizes) == len(rows)
        assert all(length == writer.ROWS for length in sizes[:-1])
        assert max(sizes, default=0) <= writer.ROWS
        full = dict(sorted(contents(before).items())[: count // writer.ROWS])
        assert full.items() <= contents(after).items()


def test_a_shard_never_exceeds_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BYTES", 100)
    sizes = [60, 40, 1, 99, 1, 500, 3]
    rows = [row(number, bytes(size)) for number, size in enumerate(sizes)]
    shards.write(tmp_path / "raw", shards.RAW, rows)
    assert lengths(tmp_path / "raw") == [2, 2, 1, 1, 1]


def test_shards_are_numbered_in_the_order_of_the_rows(tmp_path: Path) -> None:
    shards.write(tmp_path / "raw", shards.RAW, (row(number) for number in range(1001)))
    paths = shards.paths(tmp_path / "raw")
    assert [path.name for path in paths] == ["00000.arrow", "00001.arrow"]
    assert shards.read(paths[1]).column("id").to_pylist() == ["01000"]


def test_a_shard_is_written_as_soon_as_it_is_full(tmp_path: Path) -> None:
    """So memory contains the rows of one shard at most."""

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(2 * writer.ROWS + 1):
            written = {path.name for path in tmp_path.rglob("*.arrow")}
            assert 0 <= number // writer.ROWS - len(written) <= 1  # one may be on its way
            yield row(number)

    assert shards.write(tmp_path / "raw", shards.RAW, rows()) == 2 * writer.ROWS + 1


def test_a_source_that_fails_leaves_the_old_shards(tmp_path: Path) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield row(1)
        raise ValueError("the source broke")

    directory = tmp_path / "raw"
    shards.write(directory, shards.RAW, [row(7)])
    with pytest.raises(ValueError, match="the source broke"):
        shards.write(directory, shards.RAW, failing())
    assert shards.columns(directory, ["id"]).to_pydict() == {"id": ["00007"]}
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_few_shards_are_mapped_into_memory_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MAX_MAPS", 3)
    for number in range(10):
        shards.write(tmp_path / str(number), shards.RAW, [row(number)])
    files = [path for number in range(10) for path in shards.paths(tmp_path / str(number))]
    reader = shards.RowReader(files, ["id"])
    maps = []
    for position in (*range(10), *range(9, -1, -1), 0, 9, 1, 8):
        assert reader.slice(position, 1).column("id").to_pylist() == [f"{position:05d}"]
        maps.append(Path("/proc/self/maps").read_text("utf-8", "replace").count(str(tmp_path)))
    assert max(maps) == 3


def test_fewer_rows_leave_no_old_shard_behind(tmp_path: Path) -> None:
    shards.write(tmp_path / "raw", shards.RAW, (row(number) for number in range(1001)))
    shards.write(tmp_path / "raw", shards.RAW, [row(1)])
    assert lengths(tmp_path / "raw") == [1]


def test_columns_of_all_shards_are_read_in_order(tmp_path: Path) -> None:
    shards.write(tmp_path / "raw", shards.RAW, (row(number) for number in range(1500)))
    table = shards.columns(tmp_path / "raw", ["name", "id"])
    assert table.column_names == ["name", "id"]
    assert table.column("id").to_pylist() == [f"{number:05d}" for number in range(1500)]


@pytest.mark.parametrize("missing", [True, False])
def test_a_folder_without_shards_says_what_to_run(tmp_path: Path, missing: bool) -> None:
    directory = tmp_path / "clean"
    if not missing:
        directory.mkdir()
    with pytest.raises(PipelineError) as caught:
        shards.paths(directory)
    assert str(caught.value) == f"{directory} has no shards: run `dvc repro` to make them"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_shard_that_is_cut_short_is_refused_and_named(tmp_path: Path, share: float) -> None:
    shards.write(tmp_path / "raw", shards.RAW, [row(1)])
    (path,) = shards.paths(tmp_path / "raw")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        PipelineError, match=r"00000\.arrow is not a shard .*: `pipeline doctor --repair`"
    ):
        shards.read(path)


@pytest.mark.parametrize("batches", [0, 2])
def test_a_file_with_another_number_of_batches_is_refused(tmp_path: Path, batches: int) -> None:
    batch = pa.RecordBatch.from_pylist([row(1)], schema=shards.RAW)
    path = tmp_path / "00000.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    with pytest.raises(PipelineError, match=f"has {batches} record batches, not 1"):
        shards.read(path)


def test_clean_shards_hold_every_bit_of_a_hash(tmp_path: Path) -> None:
    facts = {"width": 32, "height": 48, "phash": 2**64 - 1}
    shards.write(tmp_path / "clean", shards.CLEAN, [clean_row("a") | facts])
    table = shards.columns(tmp_path / "clean", list(facts))
    assert table.to_pylist() == [facts]


def test_a_deviation_changes_no_row(tmp_path: Path) -> None:
    rows = [row(number) for number in range(1500)]
    shards.write(tmp_path / "plain", shards.with_deviation(shards.RAW, ""), rows)
    shards.write(tmp_path / "noted", shards.with_deviation(shards.RAW, "caf\u00e9"), rows)
    assert [shards.read_deviation(tmp_path / name) for name in ("plain", "noted")] == [
        "",
        "caf\u00e9",
    ]
    plain, noted = (
        shards.columns(tmp_path / name, shards.RAW.names).to_pydict() for name in ("plain", "noted")
    )
    assert plain == noted
    shards.write(tmp_path / "raw", shards.RAW, rows)
    for path in shards.paths(tmp_path / "raw"):
        assert (tmp_path / "plain" / path.name).read_bytes() == path.read_bytes()


def test_the_key_of_an_image_changes_with_its_id_and_with_its_bytes(tmp_path: Path) -> None:
    shards.write(tmp_path / "raw", shards.RAW, [row(1)])
    clean = [clean_row(*image) for image in (("a", b"x"), ("a", b"y"), ("b", b"x"))]
    shards.write(tmp_path / "clean", shards.CLEAN, clean)
    (raw,), (cleaned,) = (shards.paths(tmp_path / name) for name in ("raw", "clean"))
    assert shards.content_keys(shards.read(raw)) == ["00001"]
    keys = shards.content_keys(shards.read(cleaned))
    assert len(set(keys)) == 3
    assert keys[0] == f"a:{shards.digest(b'x')}"


def test_shards_of_another_version_are_refused(tmp_path: Path) -> None:
    shards.write(tmp_path / "raw", shards.RAW, [row(1)])
    with pytest.raises(PipelineError, match=r"raw was written by another version .*`dvc repro`"):
        shards.columns(tmp_path / "raw", ["id", shards.STORED])
