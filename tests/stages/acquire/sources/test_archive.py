import io
import tarfile
from pathlib import Path

from pipeline.stages.acquire.sources import archive


def test_the_parts_of_a_sparse_file_are_put_in_their_places(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        info = tarfile.TarInfo("cat/1.jpg")
        info.size = 5
        packed.addfile(info, io.BytesIO(b"onetw"))
    with tarfile.open(tmp_path / "a.tar") as opened:
        (member,) = opened.getmembers()
        assert archive._read_tar_member(opened, archive._pack_member(member)) == b"onetw"
        member.sparse = [(2, 3), (7, 2)]  # type: ignore[assignment] # the stub says bytes
        member.size = 10
        location = archive._pack_member(member)
        assert archive._read_tar_member(opened, location) == b"\0\0one\0\0tw\0"
