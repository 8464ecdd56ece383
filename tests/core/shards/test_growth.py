"""Shards that grow over several runs hold what one run writes."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import shards
from pipeline.core.dvc_cache import LastOutput
from pipeline.core.errors import PipelineError
from pipeline.core.shards import growth, source_order, writer

Row = dict[str, Any]
ROWS = 8  # in a full shard of these tests
NAMES = shards.RAW.names


@pytest.fixture(autouse=True)
def small_shards() -> Iterator[None]:
    with mock.patch.object(writer, "ROWS", ROWS):
        yield


def row(number: int, label: str = "cat", data: bytes | None = None) -> Row:
    data = f"image {number}".encode() if data is None else data
    key = shards.digest(data)
    return {"id": key, "label": label, "name": f"{label}/{number}.jpg", "bytes": data}


def last_output(directory: Path) -> LastOutput:
    return LastOutput({path.name: path for path in directory.iterdir()}, linked=True)


class History:
    """A folder of shards that several runs write, each as DVC would call it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = 0

    @property
    def directory(self) -> Path:
        """The shards of the last run."""
        return self.folder / f"run-{self.runs}"

    def write(self, rows: Sequence[Row]) -> Path:
        last = last_output(self.directory) if self.runs else LastOutput()
        self.runs += 1
        assert growth.write(self.directory, shards.RAW, rows, last) == len(rows)
        return self.directory


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def fresh(directory: Path, rows: Sequence[Row]) -> dict[str, bytes]:
    """The files that a first run writes."""
    shards.write(directory, shards.RAW, rows)
    return contents(directory)


def read(directory: Path, size: int = 5) -> list[Row]:
    """All rows in the source's order, without null columns."""
    rows = [r for batch in shards.batches(directory, NAMES, size) for r in batch.to_pylist()]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def shared(before: Path, after: Path) -> set[str]:
    """The shards that two runs share, as one file on disk."""
    return {
        path.name
        for path in after.glob("*.arrow")
        if (before / path.name).exists() and path.samefile(before / path.name)
    }


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "remove", "relabel", "damage", "shuffle", "repeat", "replace"]),
        st.lists(st.integers(0, 60), min_size=1, max_size=6),
        st.randoms(use_true_random=False),
    ),
    max_size=6,
)


def edited(rows: list[Row], kind: str, numbers: list[int], random: Any) -> list[Row]:
    rows = list(rows)
    match kind:
        case "insert":
            for number in numbers:
                rows.insert(
                    random.randint(0, len(rows)), row(1000 * random.randint(1, 99) + number)
                )
        case "remove":
            rows = [old for place, old in enumerate(rows) if place not in numbers]
        case "relabel":
            rows = [
                row(number, "dog", old["bytes"]) if number in numbers else old
                for number, old in enumerate(rows)
            ]
        case "shuffle":
            random.shuffle(rows)
        case "repeat":
            rows += [rows[number % len(rows)] for number in numbers if rows]
        case "replace":
            rows = [row(number + 10_000) for number in range(len(rows))]
    return rows


@settings(derandomize=True, max_examples=60)
@given(st.integers(1, 60), EDITS)
def test_any_history_leaves_the_rows_of_the_source_in_its_order(
    count: int, edits: list[tuple[str, list[int], Any]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history, rows = History(Path(folder)), [row(number) for number in range(count)]
        history.write(rows)
        for kind, numbers, random in edits:
            if kind == "damage":
                damage(random.choice(sorted(history.directory.iterdir())), numbers)
            rows = edited(rows, kind, numbers, random) or rows
            directory = history.write(rows)
            assert read(directory) == rows
            table = shards.columns(directory, ["id", "name"])
            assert table.to_pylist() == [{key: r[key] for key in ("id", "name")} for r in rows]
            assert sum(shards.read(path).num_rows for path in shards.paths(directory)) == len(rows)


def damage(path: Path, numbers: list[int]) -> None:
    """Change bytes of a copy of a file in its place."""
    data = bytearray(path.read_bytes())
    for number in numbers:
        data[len(data) * number // 61] ^= 0xFF
    path.unlink()
    path.write_bytes(data)


def test_a_run_without_changes_shares_every_file(history: History) -> None:
    rows = [row(number) for number in range(3 * ROWS + 2)]
    before, after = history.write(rows), history.write(rows)
    assert contents(before) == contents(after)
    assert shared(before, after) == {path.name for path in shards.paths(before)}


def test_new_rows_anywhere_leave_full_shards_alone(history: History) -> None:
    rows = [row(number) for number in range(20 * ROWS)]
    before = history.write(rows)
    rows[5:5] = [row(1000)]
    rows[100:100] = [row(1001)]
    after = history.write(rows)
    assert shared(before, after) == {path.name for path in shards.paths(before)}
    assert [shards.read(path).num_rows for path in shards.paths(after)] == [ROWS] * 20 + [2]
    assert read(after) == rows


def test_only_shards_that_lost_a_row_are_written_anew(history: History) -> None:
    rows = [row(number) for number in range(20 * ROWS)]
    before = history.write(rows)
    rows[7 * ROWS] = row(7 * ROWS, "dog")
    del rows[3 * ROWS]
    after = history.write(rows)
    gone = {writer.shard_name(number) for number in (3, 7)}
    assert shared(before, after) == {path.name for path in shards.paths(before)} - gone
    assert read(after) == rows
    for removed in (b"cat/24.jpg", b"cat/56.jpg"):
        assert not any(removed in data for data in contents(after).values())


def test_another_order_of_the_source_changes_no_shard(history: History) -> None:
    rows = [row(number) for number in range(3 * ROWS)]
    before, after = history.write(rows), history.write(rows[::-1])
    assert shared(before, after) == {path.name for path in shards.paths(before)}
    assert read(after) == rows[::-1]
    assert set(contents(history.write(rows))) == set(contents(before))  # order.npy is gone


@pytest.mark.parametrize("unchanged", [0, 5])
def test_where_most_rows_change_the_shards_are_those_of_a_first_run(
    history: History, tmp_path: Path, unchanged: int
) -> None:
    history.write([row(number) for number in range(5 * ROWS)])
    rows = [row(number + 1000 * (number >= unchanged)) for number in range(4 * ROWS + 3)]
    assert contents(history.write(rows)) == fresh(tmp_path / "fresh", rows)


def test_another_deviation_is_that_of_every_shard(history: History, tmp_path: Path) -> None:
    rows = [row(number) for number in range(3 * ROWS)]
    last = last_output(history.write(rows))
    schema = shards.with_deviation(shards.RAW, "other images")
    growth.write(tmp_path / "raw", schema, rows, last)
    for path in shards.paths(tmp_path / "raw"):
        assert shards.read(path).schema.metadata == schema.metadata


def test_an_image_that_the_disk_has_damaged_is_taken_from_the_source(history: History) -> None:
    rows = [row(number) for number in range(3 * ROWS)]
    before = history.write(rows)
    path = before / "00001.arrow"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"image 10", b"image 1X"))
    assert path.read_bytes() != data
    after = history.write(rows)
    assert read(after) == rows
    assert shared(before, after) == {"00000.arrow", "00002.arrow"}


def test_last_shards_are_never_written_to(history: History) -> None:
    rows = [row(number) for number in range(10 * ROWS + 1)]
    before = history.write(rows)
    for path in before.iterdir():
        path.chmod(0o444)
    state = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in before.iterdir()}
    history.write([*rows[2:], row(1000)])
    assert state == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in before.iterdir()}


def test_without_links_the_shards_are_copied(history: History, tmp_path: Path) -> None:
    rows = [row(number) for number in range(3 * ROWS)]
    before = history.write(rows)
    last = LastOutput(last_output(before).files, linked=False)
    growth.write(tmp_path / "raw", shards.RAW, rows, last)
    assert contents(tmp_path / "raw") == contents(before)
    assert shared(before, tmp_path / "raw") == set()


@pytest.mark.parametrize("end", [0.2, 0.9, 1.0])
def test_a_source_that_fails_leaves_the_old_folder(history: History, end: float) -> None:
    rows = [row(number) for number in range(5 * ROWS)]
    before = history.write(rows)

    def failing() -> Iterator[Row]:
        yield from [row(1000), *rows][: int(end * len(rows))]
        raise ValueError("the source broke")

    state = contents(before)
    with pytest.raises(ValueError, match="the source broke"):
        growth.write(before, shards.RAW, failing(), last_output(before))
    assert contents(before) == state
    assert [path.name for path in before.parent.iterdir()] == [before.name]


def test_a_changed_order_file_is_refused(history: History) -> None:
    rows = [row(number) for number in range(ROWS)]
    history.write(rows)
    directory = history.write(rows[::-1])
    path = directory / source_order.NAME
    data = path.read_bytes()
    for damaged in (data[:-4], data[:-4] + data[-8:-4], b"", data[:-4] + b"\xff" * 4):
        path.write_bytes(damaged)
        with pytest.raises(PipelineError, match=r"order\.npy is "):
            shards.columns(directory, ["id"])
