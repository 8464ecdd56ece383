import bz2
import gzip
import hashlib
import io
import os
import random
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from copy import copy
from itertools import islice
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import ArchiveDataset, FolderDataset
from pipeline.params import AcquireParams, load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import archive, contents, files, listing
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(
    update={"max_gigabytes": 1, "max_file_megabytes": 1}
)
DATASET = FolderDataset(kind="folder", description="d", licence="CC0-1.0")
RANDOM = random.Random(1)
CONTENT = {
    "set/readme.txt": b"not in a class",
    **{
        f"set/{split}/{label}/{n}.jpg": RANDOM.randbytes(2000)
        for split in ("test", "train")
        for label in ("cat", "dog")
        for n in range(3)
    },
}

Pack = Callable[[Path, dict[str, bytes]], Path]


def folder(where: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (where / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (where / "folder" / name).write_bytes(data)
    return where / "folder"


def zipped(compression: int = zipfile.ZIP_DEFLATED) -> Pack:
    def pack(where: Path, content: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(where / "set.zip", "w", compression) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return where / "set.zip"

    return pack


def tarred(compression: str = "") -> Pack:
    def pack(where: Path, content: dict[str, bytes]) -> Path:
        path = where / f"set.tar{compression}"
        path.write_bytes(tar_bytes(compression, content))
        return path

    return pack


def tar_bytes(compression: str, content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    mode = f"w:{compression}"
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            archive.addfile(member(name, len(data)), io.BytesIO(data))
    return file.getvalue()


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def read(path: Path, params: AcquireParams = PARAMS) -> list[RawImage | SkippedItem]:
    return list(contents.read_images(path, DATASET, params, ClassNames()))


def images(path: Path, params: AcquireParams = PARAMS) -> list[RawImage]:
    return [item for item in read(path, params) if isinstance(item, RawImage)]


def skipped(path: Path, params: AcquireParams = PARAMS) -> list[tuple[str, SkipReason]]:
    items = read(path, params)
    return [(item.name, item.reason) for item in items if isinstance(item, SkippedItem)]


def names(path: Path) -> list[str]:
    return [image.name for image in images(path)]


def error_of(path: Path, params: AcquireParams = PARAMS) -> str:
    with pytest.raises(PipelineError) as caught:
        images(path, params)
    return str(caught.value)


PACKS = {
    "folder": folder,
    "zip": zipped(),
    "stored": zipped(zipfile.ZIP_STORED),
    "tar": tarred(),
    "tgz": tarred("gz"),
    "bz2": tarred("bz2"),
    "xz": tarred("xz"),
}
ARCHIVES = {
    "zip": zipped(),
    "zip bzip2": zipped(zipfile.ZIP_BZIP2),
    "zip lzma": zipped(zipfile.ZIP_LZMA),
    "tar": tarred(),
    "tgz": tarred("gz"),
    "bz2": tarred("bz2"),
    "xz": tarred("xz"),
}
CHECKED = [name for name in ARCHIVES if name != "tar"]  # those with checksums
README = SkippedItem("set/readme.txt", SkipReason.OUTSIDE_CLASS_FOLDERS)
EXPECTED = [
    RawImage(name, name.split("/")[2], data, name.split("/")[1], "CC0-1.0")
    for name, data in CONTENT.items()
    if name.endswith(".jpg")
]


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_folder_zip_and_tar_give_the_same_images(tmp_path: Path, pack: Pack) -> None:
    assert read(pack(tmp_path, CONTENT)) == [README, *EXPECTED]


def test_a_folder_and_a_zip_are_listed_by_name(tmp_path: Path) -> None:
    shuffled = dict(sorted(CONTENT.items(), reverse=True))
    assert images(folder(tmp_path, shuffled)) == EXPECTED
    assert images(zipped()(tmp_path, shuffled)) == EXPECTED


def test_an_archive_is_recognized_by_its_content(tmp_path: Path) -> None:
    path = zipped()(tmp_path, CONTENT).rename(tmp_path / "download")
    dataset = ArchiveDataset(kind="archive", description="d", licence="CC0-1.0", path="x")
    assert list(contents.read_images(path, dataset, PARAMS, ClassNames())) == [README, *EXPECTED]


def test_an_id_is_the_digest_of_the_bytes(tmp_path: Path) -> None:
    row = images(folder(tmp_path, CONTENT))[0].row()
    assert {key: value for key, value in row.items() if value is not None} == {
        "id": hashlib.sha256(EXPECTED[0].data).hexdigest(),
        "label": "cat",
        "name": "set/test/cat/0.jpg",
        "split": "test",
        "licence": "CC0-1.0",
        "bytes": EXPECTED[0].data,
    }


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_file_that_is_too_large_is_skipped(tmp_path: Path, pack: Pack) -> None:
    content = {"cat/a.jpg": bytes(5000), "cat/b.jpg": bytes(5001), "dog/c.mov": bytes(9000)}
    limits = PARAMS.model_copy(update={"max_file_megabytes": 0.005})
    assert read(pack(tmp_path, content), limits) == [
        SkippedItem("cat/b.jpg", SkipReason.TOO_LARGE),
        SkippedItem("dog/c.mov", SkipReason.TOO_LARGE),
        RawImage("cat/a.jpg", "cat", bytes(5000), licence="CC0-1.0"),
    ]


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_files_that_are_too_large_together_are_refused(tmp_path: Path, pack: Pack) -> None:
    content = {"cat/a.jpg": bytes(50_000), "dog/a.jpg": bytes(50_001)}
    limits = PARAMS.model_copy(update={"max_gigabytes": 1e-4})
    path = pack(tmp_path, content)
    expected = f"{path}: larger than acquire.max_gigabytes=0.0001 unpacked"
    assert error_of(path, limits) == expected


def test_a_missing_path_says_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert error_of(path) == f"{path} does not exist: give a folder or archive as dataset.source"


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 no more", b"\x1f\x8b"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    message = f"{tmp_path / 'file'} is neither a folder nor an intact zip or tar"
    assert error_of(tmp_path / "file") == message


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_missing_class_folders_are_reported_with_the_path(tmp_path: Path, pack: Pack) -> None:
    path = pack(tmp_path, {"1.jpg": b"x"})
    assert error_of(path).startswith(f"{path}: no class folders: expected <class>/<image>")


@pytest.mark.parametrize("pack", ARCHIVES.values(), ids=ARCHIVES)
def test_a_truncated_archive_is_refused(tmp_path: Path, pack: Pack) -> None:
    path = pack(tmp_path, CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert error_of(path).startswith(str(path))


@pytest.mark.parametrize("offset", [0, 100], ids=["before a header", "inside a header"])
def test_a_tar_that_ends_between_two_files_is_refused(tmp_path: Path, offset: int) -> None:
    path = tarred()(tmp_path, CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"set/train/cat/1.jpg") + offset])
    assert str(path) in error_of(path)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tarred()(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes().replace(b"set/train/cat/1.jpg", b"set/train/bat/1.jpg"))
    assert str(path) in error_of(path)


@pytest.mark.parametrize("pack", [ARCHIVES[name] for name in CHECKED], ids=CHECKED)
@pytest.mark.parametrize("position", [0.2, 0.6])
def test_damage_inside_an_archive_is_refused(tmp_path: Path, pack: Pack, position: float) -> None:
    path = pack(tmp_path, CONTENT)
    data = bytearray(path.read_bytes())
    start = int(len(data) * position)
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    assert error_of(path).startswith(str(path))


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_damage_after_the_first_files_of_a_tar_is_refused(tmp_path: Path, compression: str) -> None:
    content = {f"cat/{number}.jpg": RANDOM.randbytes(300_000) for number in range(4)}
    path = tarred(compression)(tmp_path, content)
    data = bytearray(path.read_bytes())
    start = int(len(data) * 0.95)
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    assert error_of(path).startswith(str(path))


def test_a_zip_whose_directory_points_before_its_start_is_refused(tmp_path: Path) -> None:
    path = zipped()(tmp_path, CONTENT)
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x05\x06")
    (start,) = struct.unpack_from("<L", data, end + 16)
    struct.pack_into("<L", data, end + 16, start + 100)
    path.write_bytes(data)
    assert error_of(path).startswith(str(path))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = zipped(zipfile.ZIP_STORED)(tmp_path, CONTENT)
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT["set/train/dog/1.jpg"]) + 5] ^= 1
    path.write_bytes(data)
    assert error_of(path).startswith(f"{path}: set/train/dog/1.jpg is damaged (")
    assert error_of(path).endswith("): get it again")


def set_encrypted(path: Path, *members: str) -> Path:
    """Set the encryption flag of some members."""
    data = bytearray(path.read_bytes())
    for name in members:
        for signature, flags, length in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
            start = -1
            while (start := data.find(signature, start + 1)) >= 0:
                if data[start + length :].startswith(name.encode()):
                    data[start + flags] |= 1
    path.write_bytes(data)
    return path


def test_an_encrypted_member_is_skipped(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"cat/1.jpg": b"secret", "cat/2.jpg": b"two"})
    assert read(set_encrypted(path, "cat/1.jpg")) == [
        SkippedItem("cat/1.jpg", SkipReason.ENCRYPTED),
        RawImage("cat/2.jpg", "cat", b"two", licence="CC0-1.0"),
    ]


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"cat/1.jpg": b"secret", "dog/2.jpg": b"secret"})
    message = error_of(set_encrypted(path, "cat/1.jpg", "dog/2.jpg"))
    assert message == f"{path}: no file in it can be read (2 encrypted)"


def test_links_and_devices_in_a_tar_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
    with tarfile.open(path, "w") as archive:
        archive.addfile(member("cat/1.jpg", 3), io.BytesIO(b"one"))
        archive.addfile(member("cat/folder", kind=tarfile.DIRTYPE))
        for number, kind in enumerate(kinds):
            info = member(f"cat/link{number}.jpg", kind=kind)
            info.linkname = "/etc/hostname" if kind == tarfile.SYMTYPE else "cat/1.jpg"
            archive.addfile(info)
    assert read(path) == [
        *(
            SkippedItem(f"cat/link{number}.jpg", SkipReason.NOT_A_FILE)
            for number in range(len(kinds))
        ),
        RawImage("cat/1.jpg", "cat", b"one", licence="CC0-1.0"),
    ]


def test_links_in_a_zip_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    link = zipfile.ZipInfo("cat/link.jpg")
    link.create_system = 3  # Unix
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("cat")
        archive.writestr(link, "/etc/hostname")
        archive.writestr("cat/1.jpg", b"one")
    assert read(path) == [
        SkippedItem("cat/link.jpg", SkipReason.NOT_A_FILE),
        RawImage("cat/1.jpg", "cat", b"one", licence="CC0-1.0"),
    ]


def test_a_pipe_in_a_folder_is_skipped(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    os.mkfifo(path / "cat" / "pipe.jpg")
    assert skipped(path) == [("cat/pipe.jpg", SkipReason.NOT_A_FILE)]


def test_a_link_to_a_device_in_a_folder_is_skipped(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    (path / "cat" / "zero.jpg").symlink_to("/dev/zero")
    assert skipped(path) == [("cat/zero.jpg", SkipReason.NOT_A_FILE)]


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux has it")
@pytest.mark.parametrize("target", ["/proc", "/proc/self/fd", "/sys", "/proc/self/environ"])
def test_a_link_to_a_view_of_the_system_is_skipped(tmp_path: Path, target: str) -> None:
    """Some files of /proc wait for ever when they are read, and its folders lead everywhere."""
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    (path / "cat" / "link.jpg").symlink_to(target)
    assert skipped(path) == [("cat/link.jpg", SkipReason.NOT_A_FILE)]


@pytest.mark.parametrize("target", ["nowhere", "link.jpg"], ids=["dangling", "loop"])
def test_a_dangling_link_in_a_folder_is_skipped(tmp_path: Path, target: str) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    (path / "cat" / "link.jpg").symlink_to(target)
    assert skipped(path) == [("cat/link.jpg", SkipReason.NOT_A_FILE)]


def test_links_in_a_folder_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "other", {"1.jpg": b"one"})
    path = folder(tmp_path, {"cat/2.jpg": b"two"})
    (path / "dog").symlink_to(elsewhere)
    (path / "cat" / "3.jpg").symlink_to(elsewhere / "1.jpg")
    (path / "cat" / "circle").symlink_to(path)
    assert names(path) == ["cat/2.jpg", "cat/3.jpg", "dog/1.jpg"]


UNSAFE_NAMES = ["../cat/1.jpg", "cat/../../1.jpg", "/cat/1.jpg", "//host/cat/1.jpg", "C:/cat/1.jpg"]


@pytest.mark.parametrize("name", [*UNSAFE_NAMES, "C:\\cat\\1.jpg"])
@pytest.mark.parametrize("pack", [zipped(), tarred()], ids=["zip", "tar"])
def test_a_name_that_leaves_the_archive_is_skipped(tmp_path: Path, pack: Pack, name: str) -> None:
    path = pack(tmp_path, {name: b"out", "cat/2.jpg": b"in", "dog/2.jpg": b"in"})
    listed_name = name.replace("\\", "/") if path.suffix == ".zip" else name
    assert skipped(path) == [(listed_name, SkipReason.UNSAFE_NAME)]


@pytest.mark.parametrize("name", ["..\\..\\1.jpg", "\\cat\\1.jpg", "\\\\host\\cat\\1.jpg"])
def test_a_name_with_backslashes_that_leaves_a_zip_is_skipped(tmp_path: Path, name: str) -> None:
    path = zipped()(tmp_path, {name: b"out", "cat/2.jpg": b"in"})
    assert skipped(path) == [(name.replace("\\", "/"), SkipReason.UNSAFE_NAME)]


def test_an_archive_of_unsafe_names_is_refused(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"../cat/1.jpg": b"1", "/dog/1.jpg": b"1"})
    assert error_of(path) == f"{path}: no file in it can be read (2 unsafe_name)"


@pytest.mark.parametrize("pack", [zipped(), tarred("gz")], ids=["zip", "tgz"])
def test_nothing_is_unpacked_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack
) -> None:
    outside, inside = f"{tmp_path}/victim/1.jpg", "cat/1.jpg"
    path = pack(tmp_path, {outside: b"out", "../../victim.jpg": b"out", inside: b"in"})
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    before = set(tmp_path.rglob("*"))
    assert names(path) == [inside]
    assert set(tmp_path.rglob("*")) == before


def test_backslashes_in_a_zip_separate_folders(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"set\\cat\\1.jpg": b"1", "set\\dog\\1.jpg": b"2"})
    assert [(image.name, image.label) for image in images(path)] == [
        ("set/cat/1.jpg", "cat"),
        ("set/dog/1.jpg", "dog"),
    ]


def test_a_folder_entry_with_a_backslash_in_a_zip_is_ignored(tmp_path: Path) -> None:
    files = {"cat\\sub\\1.jpg": b"1", "dog\\1.jpg": b"2"}
    path = zipped()(tmp_path, {"cat\\": b"", "cat\\sub\\": b""} | files)
    assert names(path) == ["cat/sub/1.jpg", "dog/1.jpg"]


def test_a_zip_member_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"?": b"no name", "cat/1.jpg": b"1", "dog/1.jpg": b"1"})
    path.write_bytes(path.read_bytes().replace(b"?", b"\0"))  # Python cuts names at a null byte
    assert names(path) == ["cat/1.jpg", "dog/1.jpg"]


def test_two_members_of_a_zip_with_the_same_name_are_both_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("cat/1.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/1.jpg", b"two")
    assert [image.data for image in images(tmp_path / "set.zip")] == [b"one", b"two"]


def test_two_members_of_a_tar_with_the_same_name_are_both_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for data in (b"one", b"two"):
            archive.addfile(member("cat/1.jpg", 3), io.BytesIO(data))
    assert [image.data for image in images(tmp_path / "set.tar")] == [b"one", b"two"]


JUNK = (
    "__MACOSX/1/._1.jpg",
    "._1",
    "1/._1.jpg",
    "1/._cat.1.jpg",
    "1/._1.cls",
    "._train.csv",
    ".DS_Store",
    "1/.DS_Store",
    "1/Thumbs.db",
    "1/.ipynb_checkpoints/1-checkpoint.jpg",
    ".git/objects/1.jpg",
)
NUMBERS = range(1, 7)
LAYOUTS = {
    "folders": {f"{n % 2}/{n}.jpg": b"image" for n in NUMBERS},
    "names": {f"1/{'cat' if n % 2 else 'dog'}.{n}.jpg": b"image" for n in NUMBERS},
    "WebDataset": {
        **{f"1/{n}.jpg": b"image" for n in NUMBERS},
        **{f"1/{n}.cls": b"%d" % (n % 2) for n in NUMBERS},
    },
    "table": {
        **{f"1/{n}.jpg": b"image" for n in NUMBERS},
        "train.csv": b"file,label\n" + b"".join(b"%d.jpg,%d\n" % (n, n % 2) for n in NUMBERS),
    },
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("pack", [folder, zipped(), tarred()], ids=["folder", "zip", "tar"])
def test_junk_is_neither_read_nor_left_out(
    tmp_path: Path, pack: Pack, layout: dict[str, bytes]
) -> None:
    path = pack(tmp_path, dict.fromkeys(JUNK, b"\0\5\x16\7") | layout)
    assert sorted(names(path)) == sorted(name for name in layout if name.endswith(".jpg"))
    assert skipped(path) == []


def test_a_hidden_file_that_may_be_a_photograph_is_left_out(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"1", "dog/1.jpg": b"2", "cat/.2.jpg": b"3"})
    assert skipped(path) == [("cat/.2.jpg", SkipReason.OUTSIDE_CLASS_FOLDERS)]


def test_a_link_to_a_folder_that_is_read_already_is_left_out(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"1", "dog/1.jpg": b"2"})
    (path / "puppy").symlink_to(path / "dog")
    assert names(path) == ["cat/1.jpg", "dog/1.jpg"]
    assert skipped(path) == [("puppy", SkipReason.NOT_A_FILE)]


@pytest.mark.parametrize("pack", [folder, tarred()], ids=["folder", "tar"])
def test_a_name_that_is_not_utf8_gets_replacement_characters(tmp_path: Path, pack: Pack) -> None:
    name = os.fsdecode(b"cat/caf\xe9.jpg")  # Latin-1
    (image,) = images(pack(tmp_path, {name: b"one"}))
    assert (image.name, image.data) == ("cat/caf\N{REPLACEMENT CHARACTER}.jpg", b"one")


@pytest.mark.parametrize("pack", [folder, zipped(), tarred()], ids=["folder", "zip", "tar"])
def test_a_name_in_utf8_stays_as_it_is(tmp_path: Path, pack: Pack) -> None:
    assert names(pack(tmp_path, {"Kätzchen/猫 1.jpg": b"one"})) == ["Kätzchen/猫 1.jpg"]


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"cat/caf\x82.jpg", "cat/café.jpg"), (b"cat/caf\xe9.jpg", "cat/cafΘ.jpg")],
    ids=["cp437", "latin-1"],
)
def test_a_zip_without_utf8_is_read_as_cp437_if_asked_to(
    tmp_path: Path, raw: bytes, name: str
) -> None:
    path = zipped()(tmp_path, {"cat/caf?.jpg": b"one"})
    path.write_bytes(path.read_bytes().replace(b"cat/caf?.jpg", raw))
    assert listed_with(path, "cp437") == {name: b"one"}


def overlapping(path: Path, data: bytes, times: int) -> Path:
    """A zip that lists the same bytes many times over."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.jpg", data)
        archive.filelist.extend(copy(archive.filelist[0]) for _ in range(times - 1))
    return path


def sparse(path: Path, *sizes: int) -> Path:
    """A tar of GNU's sparse files: nothing but holes."""
    blocks = []
    for number, size in enumerate(sizes):
        info = member(f"cat/{number}.jpg", kind=tarfile.GNUTYPE_SPARSE)
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[386:410] = b"%011o\0%011o\0" % (size, 0)
        block[483:495] = b"%011o\0" % size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        blocks.append(bytes(block))
    path.write_bytes(b"".join(blocks).ljust(10_240, b"\0"))
    return path


BOMB = "unpacks to more than 200 times its size, which no archive of photographs does"


@pytest.mark.parametrize("pack", [zipped(), tarred("gz")], ids=["zip", "tgz"])
def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Pack) -> None:
    monkeypatch.setattr(files, "SLACK_BYTES", 1e6)
    path = pack(tmp_path, {f"cat/{number}.jpg": bytes(900_000) for number in range(5)})
    assert error_of(path) == f"{path}: {BOMB}"


def test_a_zip_bomb_of_overlapping_members_is_refused(tmp_path: Path) -> None:
    path = overlapping(tmp_path / "set.zip", bytes(900_000), 150)
    assert error_of(path).startswith(f"{path}: ")


def test_the_unpacked_size_of_a_sparse_tar_counts(tmp_path: Path) -> None:
    path = sparse(tmp_path / "set.tar", *[8 * 10**9 - 1] * 2)
    assert error_of(path) == f"{path}: larger than acquire.max_gigabytes=1 unpacked"


def test_a_sparse_file_that_is_small_is_read(tmp_path: Path) -> None:
    assert [image.data for image in images(sparse(tmp_path / "set.tar", 5000))] == [bytes(5000)]


@pytest.mark.parametrize(("more", "message"), [(0, "no file in it can be read"), (1, BOMB)])
def test_the_limit_for_bombs_is_exact(tmp_path: Path, more: int, message: str) -> None:
    limit = 64_000_000 + 200 * 10_240
    path = sparse(tmp_path / "set.tar", limit + more)
    assert error_of(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_source_with_too_many_files_is_refused(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_FILES", 5)
    path = pack(tmp_path, {f"cat/{number}.jpg": b"1" for number in range(6)})
    assert (
        error_of(path)
        == f"{path} has more than 5 files, the most of a data set: make several of it"
    )


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_source_of_many_empty_files_is_refused(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_EMPTY_FILES", 5)
    content = {f"cat/{number}.jpg": b"" for number in range(5)} | {"dog/1.jpg": b"1"}
    assert len(images(pack(tmp_path, content))) == 6
    path = pack(tmp_path, content | {"cat/6.jpg": b""})
    assert error_of(path) == (
        f"{path}: 6 of 7 files are empty: it was copied or packed without their contents, so get "
        "it again"
    )


def test_a_small_archive_may_compress_well(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {f"cat/{number}.jpg": bytes(500_000) for number in range(20)})
    assert len(images(path)) == 20


def test_a_folder_with_a_sparse_file_is_not_a_bomb(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"1"})
    with (path / "cat/2.jpg").open("wb") as file:
        file.truncate(200_000_000)  # a hole
    assert skipped(path) == [("cat/2.jpg", SkipReason.TOO_LARGE)]


def test_a_zip_member_is_not_unpacked_beyond_its_stated_size(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"cat/1.jpg": bytes(30_000_000), "dog/1.jpg": b"1"})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 30_000_000), struct.pack("<L", 10)))
    tracemalloc.start()
    try:
        with pytest.raises(PipelineError):
            images(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "kind",
    [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK],
    ids=["pax", "global pax", "long name", "long link"],
)
def test_a_tar_with_a_huge_header_is_refused(tmp_path: Path, kind: bytes) -> None:
    """tarfile reads headers into memory."""
    path = tmp_path / "set.tgz"
    with gzip.open(path, "wb", 1) as file:
        file.write(member("header", 30_000_000, kind).tobuf(tarfile.GNU_FORMAT) + bytes(30_000_256))
        file.write(tar_bytes("", {"cat/1.jpg": b"1", "dog/1.jpg": b"2"}))
    tracemalloc.start()
    try:
        assert error_of(path).startswith(str(path))
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(20)
def test_a_tar_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    """CVE-2025-8194: the size of a member leads tarfile back to its own header."""
    good, block = (bytearray(member("cat/1.jpg").tobuf(tarfile.GNU_FORMAT)) for _ in range(2))
    block[124:136] = b"\xff" + (256**11 - 512).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = tmp_path / "set.tar"
    path.write_bytes(bytes(good + block).ljust(10_240, b"\0"))
    assert error_of(path).startswith(str(path))


def zip64(path: Path, count: int) -> Path:
    """A zip64 of `count` members of one byte."""
    checksum, local, central = zlib.crc32(b"x"), bytearray(), bytearray()
    for number in range(count):
        name = b"%s/%06d.jpg" % ((b"cat", b"dog")[number % 2], number)
        facts = struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, checksum, 1, 1, len(name), 0)
        central += b"PK\1\2\x14\0" + facts + struct.pack("<HHHLL", 0, 0, 0, 0, len(local)) + name
        local += b"PK\3\4" + facts + name + b"x"
    end = len(local) + len(central)
    zip64 = struct.pack(
        "<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(central), len(local)
    )
    tail = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    tail += struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(local + central + zip64 + tail)
    return path


def test_a_zip64_is_listed_before_its_first_file_is_read(tmp_path: Path) -> None:
    reader = contents.read_images(zip64(tmp_path / "set.zip", 5_000), DATASET, PARAMS, ClassNames())
    first = [item.name for item in islice(reader, 3)]
    assert first == ["cat/000000.jpg", "cat/000002.jpg", "cat/000004.jpg"]
    reader.close()  # type: ignore[attr-defined]


def test_an_archive_is_closed_if_the_reader_stops_early(tmp_path: Path) -> None:
    reader = contents.read_images(zipped()(tmp_path, CONTENT), DATASET, PARAMS, ClassNames())
    next(reader)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        reader.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("padding", [bytes(archive.MAX_PADDING_BYTES + archive.BLOCK), b"more"])
def test_a_tar_with_more_than_padding_after_its_end_is_refused(
    tmp_path: Path, padding: bytes
) -> None:
    path = tarred("bz2")(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes() + bz2.compress(padding))
    assert "more than padding after its end" in error_of(path)


# Names that are not ASCII


def zip_of(path: Path, name: bytes, extra: bytes) -> Path:
    """A zip with one file, whose name is these bytes, without the flag for UTF-8."""
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("x" * len(name))
        info.extra = extra
        archive.writestr(info, b"data")
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    return path


def unicode_path(name: bytes, text: str) -> bytes:
    body = struct.pack("<BI", 1, zlib.crc32(name)) + text.encode()
    return struct.pack("<HH", 0x7075, len(body)) + body


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("caf\u00e9/1.jpg".encode(), b"", "caf\u00e9/1.jpg"),
        ("cafe\u0301/1.jpg".encode(), b"", "cafe\u0301/1.jpg"),
        (b"caf?/1.jpg", b"", "caf?/1.jpg"),
        (
            "\u00f5/1.jpg".encode("cp850"),
            unicode_path("\u00f5/1.jpg".encode("cp850"), "\u00f5/1.jpg"),
            "\u00f5/1.jpg",
        ),
        ("\u00fc/1.jpg".encode(), unicode_path(b"other", "other"), "\u00fc/1.jpg"),
    ],
)
def test_names_in_a_zip_without_the_flag_for_utf8(
    tmp_path: Path, name: bytes, extra: bytes, expected: str
) -> None:
    path = zip_of(tmp_path / "a.zip", name, extra)
    with files.open_listing(path, PARAMS) as listing:
        (file,) = listing.files
        assert file.name == expected
        assert file.read() == b"data"


def listed_with(path: Path, encoding: str | None) -> dict[str, bytes]:
    with files.open_listing(path, PARAMS, encoding=encoding) as listing:
        return {file.name: file.read() for file in listing.files}


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("\uace0\uc591\uc774/1.jpg", "cp949"),
        ("\u8868/\u30bd.jpg", "cp932"),  # the second byte of both is a backslash
    ],
)
def test_names_in_a_zip_of_windows_are_in_its_code_page(
    tmp_path: Path, name: str, encoding: str
) -> None:
    path = zip_of(tmp_path / "a.zip", name.encode(encoding), b"")
    assert listed_with(path, encoding) == {name: b"data"}
    with pytest.raises(PipelineError) as caught:
        listed_with(path, None)
    assert f"encoding = {encoding!r} for {name}" in str(caught.value)
    with pytest.raises(
        PipelineError, match=r"a\.zip: the name .* in it is not in ascii: say which"
    ):
        listed_with(path, "ascii")


def test_an_encoding_is_of_no_names_in_utf8(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", "\u00e9/1.jpg".encode(), b"")
    assert listed_with(path, "cp949") == {"\u00e9/1.jpg": b"data"}


@pytest.mark.parametrize("pack", [folder, tarred()], ids=["folder", "tar"])
def test_class_folders_whose_names_are_not_utf8_are_not_merged(tmp_path: Path, pack: Pack) -> None:
    content = {os.fsdecode(b"caf\xe8/1.jpg"): b"one", os.fsdecode(b"caf\xe9/1.jpg"): b"two"}
    path = pack(tmp_path, content | {"tea/1.jpg": b"three"})
    assert error_of(path) == (
        f'{path} has a class whose name is not UTF-8, "caf\N{REPLACEMENT CHARACTER}": rename its '
        "folder"
    )
