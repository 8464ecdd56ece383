import hashlib
import io
import os
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.acquire import files
from pipeline.acquire.dataset import Archive, Folder
from pipeline.acquire.raw import RawImage
from pipeline.errors import PipelineError
from pipeline.params import Acquire

LIMITS = Acquire(allow_private=False, max_gigabytes=1, max_file_megabytes=1)
DATASET = Folder(kind="folder", description="d", licence="CC0-1.0")
RANDOM = random.Random(1)
CONTENT = {
    "set/readme.txt": b"not in a class",
    **{f"set/{split}/{label}/{n}.jpg": RANDOM.randbytes(2000)
       for split in ("test", "train") for label in ("cat", "dog") for n in range(3)},
}  # fmt: skip

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


def images(path: Path, limits: Acquire = LIMITS) -> list[RawImage]:
    return list(files.images(path, DATASET, limits))


def refusal(path: Path, limits: Acquire = LIMITS) -> str:
    with pytest.raises(PipelineError) as caught:
        images(path, limits)
    return str(caught.value)


PACKS = {
    "folder": folder, "zip": zipped(), "stored": zipped(zipfile.ZIP_STORED), "tar": tarred(),
    "tgz": tarred("gz"), "bz2": tarred("bz2"), "xz": tarred("xz"),
}  # fmt: skip
ARCHIVES = {
    "zip": zipped(), "zip bzip2": zipped(zipfile.ZIP_BZIP2), "zip lzma": zipped(zipfile.ZIP_LZMA),
    "tar": tarred(), "tgz": tarred("gz"), "bz2": tarred("bz2"), "xz": tarred("xz"),
}  # fmt: skip
EXPECTED = [
    RawImage(name, name.split("/")[2], data, name.split("/")[1], "CC0-1.0")
    for name, data in CONTENT.items()
    if name.endswith(".jpg")
]


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_folder_zip_and_tar_give_the_same_images(tmp_path: Path, pack: Pack) -> None:
    assert images(pack(tmp_path, CONTENT)) == EXPECTED


def test_a_folder_and_a_zip_are_listed_by_name(tmp_path: Path) -> None:
    shuffled = dict(sorted(CONTENT.items(), reverse=True))
    assert images(folder(tmp_path, shuffled)) == EXPECTED
    assert images(zipped()(tmp_path, shuffled)) == EXPECTED


def test_an_archive_is_known_by_its_content_and_not_its_name(tmp_path: Path) -> None:
    path = zipped()(tmp_path, CONTENT).rename(tmp_path / "download")
    dataset = Archive(kind="archive", description="d", licence="CC0-1.0", path="x")
    assert list(files.images(path, dataset, LIMITS)) == EXPECTED


def test_an_id_is_the_digest_of_the_bytes(tmp_path: Path) -> None:
    row = images(folder(tmp_path, CONTENT))[0].row()
    assert row == {
        "id": hashlib.sha256(EXPECTED[0].data).hexdigest(),
        "label": "cat",
        "name": "set/test/cat/0.jpg",
        "split": "test",
        "licence": "CC0-1.0",
        "bytes": EXPECTED[0].data,
    }


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_a_file_that_is_too_large_is_left_out_and_told(
    tmp_path: Path, pack: Pack, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"cat/a.jpg": bytes(5000), "cat/b.jpg": bytes(5001), "dog/c.mov": bytes(9000)}
    limits = LIMITS.model_copy(update={"max_file_megabytes": 0.005})
    assert [image.name for image in images(pack(tmp_path, content), limits)] == ["cat/a.jpg"]
    assert capsys.readouterr().out == (
        "acquire: left out 2 files past acquire.max_file_megabytes=0.005, the first cat/b.jpg\n"
    )


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_too_much_in_all_is_refused(tmp_path: Path, pack: Pack) -> None:
    content = {"cat/a.jpg": bytes(50_000), "dog/a.jpg": bytes(50_001)}
    limits = LIMITS.model_copy(update={"max_gigabytes": 1e-4})
    path = pack(tmp_path, content)
    expected = f"{path}: holds more than acquire.max_gigabytes=0.0001 unpacked"
    assert refusal(path, limits) == expected


def test_a_missing_path_says_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal(path) == f"{path} does not exist: give a folder or archive as dataset.source"


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 no more", b"\x1f\x8b", b"x" * 2000])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    said = f"{tmp_path / 'file'} is neither a folder nor a sound zip or tar"
    assert refusal(tmp_path / "file") == said


@pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)
def test_no_class_folders_is_told_with_the_path(tmp_path: Path, pack: Pack) -> None:
    path = pack(tmp_path, {"1.jpg": b"x"})
    assert refusal(path).startswith(f"{path}: no class folders: expected <class>/<image>")


@pytest.mark.parametrize("pack", ARCHIVES.values(), ids=ARCHIVES)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.7])
def test_a_truncated_archive_is_refused(tmp_path: Path, pack: Pack, kept: float) -> None:
    path = pack(tmp_path, CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert refusal(path).startswith(str(path))


@pytest.mark.parametrize("kept", [0, 100], ids=["before a header", "inside a header"])
def test_a_tar_that_ends_between_two_files_is_refused(tmp_path: Path, kept: int) -> None:
    path = tarred()(tmp_path, CONTENT)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"set/train/cat/1.jpg") + kept])
    assert str(path) in refusal(path)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    path = tarred()(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes().replace(b"set/train/cat/1.jpg", b"set/train/bat/1.jpg"))
    assert str(path) in refusal(path)


@pytest.mark.parametrize("pack", [a for n, a in ARCHIVES.items() if n != "tar"],
                         ids=[n for n in ARCHIVES if n != "tar"])  # fmt: skip
@pytest.mark.parametrize("place", [0.2, 0.4, 0.6])
def test_damage_inside_an_archive_is_refused(tmp_path: Path, pack: Pack, place: float) -> None:
    path = pack(tmp_path, CONTENT)
    data = bytearray(path.read_bytes())
    start = int(len(data) * place)
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    assert refusal(path).startswith(str(path))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = zipped(zipfile.ZIP_STORED)(tmp_path, CONTENT)
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT["set/train/dog/1.jpg"]) + 5] ^= 1
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: set/train/dog/1.jpg is damaged (")
    assert refusal(path).endswith("): get it again")


def test_an_encrypted_member_is_refused_and_named(tmp_path: Path) -> None:
    path = zipped()(tmp_path, {"cat/1.jpg": b"secret"})
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    said = refusal(path)
    assert said.startswith(f"{path}: cat/1.jpg is ")
    assert "encrypted" in said


def test_links_and_devices_in_a_tar_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(member("cat/1.jpg", 3), io.BytesIO(b"one"))
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                                       tarfile.CHRTYPE, tarfile.DIRTYPE)):  # fmt: skip
            info = member(f"cat/link{number}.jpg", kind=kind)
            info.linkname = "/etc/hostname" if kind == tarfile.SYMTYPE else "cat/1.jpg"
            archive.addfile(info)
    assert [(image.name, image.data) for image in images(path)] == [("cat/1.jpg", b"one")]


def test_links_in_a_zip_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    link = zipfile.ZipInfo("cat/link.jpg")
    link.create_system = 3  # Unix
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("cat")
        archive.writestr(link, "/etc/hostname")
        archive.writestr("cat/1.jpg", b"one")
    assert [(image.name, image.data) for image in images(path)] == [("cat/1.jpg", b"one")]


def test_a_pipe_in_a_folder_is_not_read(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    os.mkfifo(path / "cat" / "pipe.jpg")
    assert [image.name for image in images(path)] == ["cat/1.jpg"]


@pytest.mark.parametrize("target", ["nowhere", "link.jpg"], ids=["dangling", "loop"])
def test_a_link_to_nothing_in_a_folder_is_told_and_not_lost(tmp_path: Path, target: str) -> None:
    path = folder(tmp_path, {"cat/1.jpg": b"one"})
    (path / "cat" / "link.jpg").symlink_to(target)
    with pytest.raises(OSError, match=r"cat/link\.jpg"):
        list(images(path))


def test_links_in_a_folder_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "other", {"1.jpg": b"one"})
    path = folder(tmp_path, {"cat/2.jpg": b"two"})
    (path / "dog").symlink_to(elsewhere)
    (path / "cat" / "3.jpg").symlink_to(elsewhere / "1.jpg")
    (path / "cat" / "circle").symlink_to(path)
    assert [image.name for image in images(path)] == ["cat/2.jpg", "cat/3.jpg", "dog/1.jpg"]


@pytest.mark.parametrize("name", ["../cat/1.jpg", "cat/../../1.jpg"])
@pytest.mark.parametrize("pack", [zipped(), tarred()], ids=["zip", "tar"])
def test_a_name_that_leads_out_of_the_archive_is_left_out(
    tmp_path: Path, pack: Pack, name: str
) -> None:
    path = pack(tmp_path, {name: b"out", "cat/2.jpg": b"in", "dog/2.jpg": b"in"})
    assert [image.name for image in images(path)] == ["cat/2.jpg", "dog/2.jpg"]


@pytest.mark.parametrize("pack", [folder, tarred()], ids=["folder", "tar"])
def test_a_name_that_is_no_unicode_can_still_be_stored(tmp_path: Path, pack: Pack) -> None:
    name = os.fsdecode(b"cat/caf\xe9.jpg")
    (image,) = images(pack(tmp_path, {name: b"one"}))
    assert image.data == b"one"
    assert image.name.encode("utf-8").startswith(b"cat/caf")


def test_an_archive_is_closed_also_when_the_reader_stops_early(tmp_path: Path) -> None:
    reader = files.images(zipped()(tmp_path, CONTENT), DATASET, LIMITS)
    next(reader)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        reader.close()  # type: ignore[attr-defined]
