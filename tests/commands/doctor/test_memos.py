from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.commands.doctor.memos import examine
from pipeline.commands.doctor.quarantine import Quarantine
from pipeline.images.memo import KEY, Memo

VALUE = pa.schema([pa.field("value", pa.int64())])


def remember(number: int) -> Path:
    """The file of a memo with one result."""
    memo = Memo("features", "k", VALUE, part="view_0")
    columns = {KEY.name: [f"image {number}"], "value": [number]}
    memo.add(pa.RecordBatch.from_pydict(columns, schema=pa.schema([KEY, *VALUE])))
    return max(memo.directory.glob("*.arrow"), key=lambda path: path.stat().st_mtime_ns)


@pytest.mark.parametrize("damage", ["empty", "zeroed page", "cut"])
def test_damaged_files_are_moved_away(world: Path, damage: str) -> None:
    sound, damaged = remember(1), remember(2)
    data = damaged.read_bytes()
    damaged.write_bytes(
        {"empty": b"", "zeroed page": data[:64] + bytes(64) + data[128:], "cut": data[:-1]}[damage]
    )
    (finding,) = examine(world / ".cache", None)
    assert not finding.is_fixed
    assert damaged.exists()
    (finding,) = examine(world / ".cache", Quarantine(world / "quarantine"))
    assert finding.is_fixed
    assert not damaged.exists()
    assert sound.exists()
    assert list(examine(world / ".cache", None)) == []
