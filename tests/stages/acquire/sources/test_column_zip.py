import zipfile
from pathlib import Path

import pytest

from pipeline.stages.acquire.sources.column_zip import LOCATION, ColumnZipFile
from pipeline.stages.acquire.sources.listing import ROWS, FileTable, SourceFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A zip with more members than are Python objects at a time, compressed and not."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in reversed(range(ROWS + 3)):
            kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2]
            archive.writestr(f"cat/{number:05d}.jpg", b"%d" % number * 20, kind)
    return tmp_path / "a.zip"


def listed(archive: ColumnZipFile) -> list[SourceFile]:
    return [file for file in archive.list_files() if isinstance(file, SourceFile)]


def test_members_are_listed_by_name_and_read_as_zipfile_reads_them(path: Path) -> None:
    with ColumnZipFile(path) as archive, zipfile.ZipFile(path) as plain:
        files = listed(archive)
        assert [file.name for file in files] == sorted(plain.namelist())
        for file in files[:: ROWS // 10]:
            assert file.read() == plain.read(file.name)
            assert file.size == plain.getinfo(file.name).file_size


def test_each_member_knows_where_the_next_one_starts(path: Path) -> None:
    """By which newer versions of zipfile refuse members that overlap."""
    with ColumnZipFile(path) as archive, zipfile.ZipFile(path) as plain:
        starts = sorted(info.header_offset for info in plain.infolist())
        end_of = dict(zip(starts, [*starts[1:], archive.start_dir], strict=True))
        for file in listed(archive):
            start, end = LOCATION.unpack(file.location[: LOCATION.size])[:2]
            assert end == end_of[start]


def test_a_changed_member_is_refused(path: Path) -> None:
    with ColumnZipFile(path) as archive:
        first = listed(archive)[0]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"0" * 20, b"0" * 19 + b"1"))
    with ColumnZipFile(path) as archive:
        (file, *_) = listed(archive)
        assert file.location == first.location
        with pytest.raises(zipfile.BadZipFile, match="CRC"):
            file.read()


def test_a_table_of_files_gives_them_in_their_order(path: Path) -> None:
    table = FileTable()
    with ColumnZipFile(path) as archive:
        files = listed(archive)
        for file in files:
            table.append(file)
        assert len(table) == len(files)
        assert list(table) == files
        assert list(table) == files  # again
        assert list(table.names()) == [file.name for file in files]
    assert list(FileTable()) == []
