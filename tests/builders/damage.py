"""What a disk does to files."""

from pathlib import Path


def zero_bytes_of(data: bytes, folder: Path) -> None:
    """Zero some bytes in the middle of `data`, in the one shard of `folder` that holds it."""
    (path,) = (path for path in folder.glob("*.arrow") if data in path.read_bytes())
    middle = len(data) // 2
    damaged = data[:middle] + bytes(4) + data[middle + 4 :]
    assert damaged != data
    path.write_bytes(path.read_bytes().replace(data, damaged))
