import errno
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.inference.inputs import LIMITS, ImageInputs
from pipeline.inference.predict import NamedImage
from tests.fakes.wire import Wire, reply

JPEG = b"\xff\xd8\xff\xe0\0\x10 as good as an image, for what is read here"
OPEN = LIMITS.model_copy(update={"allow_private": True})
SMALL = OPEN.model_copy(update={"max_file_megabytes": 1e-4, "max_gigabytes": 1e-6})


def named(*names: str, stdin: bytes = b"", limits: object = OPEN) -> list[tuple[str, bytes | str]]:
    """What was read, once as many came as were announced."""
    announced = 0

    def expect(more: int) -> None:
        nonlocal announced
        announced += more

    assert isinstance(limits, type(OPEN))
    with ImageInputs(io.BytesIO(stdin), limits, expect) as inputs:
        images: list[NamedImage] = list(inputs.images(names))
    assert announced == len(images)
    return [(image.name, image.content) for image in images]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zipped(*names: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(name, JPEG)
    return packed.getvalue()


def test_a_file_and_one_that_is_not_there() -> None:
    Path("a.jpg").write_bytes(JPEG)
    assert named("a.jpg", "no.jpg") == [("a.jpg", JPEG), ("no.jpg", "No such file or directory")]


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMFILE])
@pytest.mark.parametrize("name", ["photos/a.jpg", "photos"])
def test_an_error_of_the_machine_is_no_problem_of_an_input(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    Path("photos").mkdir()
    Path("photos/a.jpg").write_bytes(JPEG)

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", fail)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        named(name)


def test_folders_are_walked_in_order_without_hidden_files() -> None:
    Path("in/ner").mkdir(parents=True)
    Path("in/.git").mkdir()
    for name in ("in/b.jpg", "in/ner/a.jpg", "in/.git/c.jpg", "in/.DS_Store"):
        Path(name).write_bytes(JPEG)
    Path("in/gone.jpg").symlink_to("nowhere")
    images = named("in/")
    assert sorted(images) == [
        ("in/b.jpg", JPEG),
        ("in/gone.jpg", "not_a_file"),
        ("in/ner/a.jpg", JPEG),
    ]
    Path("empty").mkdir()
    assert named("empty") == [("empty", "no files in it")]


def test_a_link_that_leads_back_is_not_followed_for_ever() -> None:
    Path("in").mkdir()
    Path("in/a.jpg").write_bytes(JPEG)
    Path("in/back").symlink_to(Path.cwd() / "in", target_is_directory=True)
    assert named("in") == [("in/a.jpg", JPEG)]


def test_patterns_also_through_folders_and_files_that_look_like_patterns() -> None:
    Path("in/ner").mkdir(parents=True)
    for name in ("in/a.jpg", "in/ner/b.jpg", "in/c.png", "in/[1].jpg"):
        Path(name).write_bytes(JPEG)
    assert [name for name, _ in named("in/**/*.jpg")] == ["in/[1].jpg", "in/a.jpg", "in/ner/b.jpg"]
    assert named("in/[1].jpg") == [("in/[1].jpg", JPEG)]
    assert named("in/*.gif") == [("in/*.gif", "no file matches this pattern")]


def test_archives_are_recognised_by_content_not_by_name() -> None:
    Path("z.bin").write_bytes(zipped("cats/1.jpg", "__MACOSX/cats/._1.jpg", "../out.jpg"))
    assert named("z.bin") == [("z.bin/../out.jpg", "unsafe_name"), ("z.bin/cats/1.jpg", JPEG)]
    Path("a.jpg").write_bytes(JPEG)
    for pack in (bytes, gzip.compress, lzma.compress):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add("a.jpg", "dogs/2.jpg")
        Path("t").write_bytes(pack(packed.getvalue()))
        assert named("t") == [("t/dogs/2.jpg", JPEG)]


def test_names_in_a_zip_need_no_encoding() -> None:
    Path("windows.zip").write_bytes(zipped("caf?.jpg").replace(b"caf?", b"caf\x82"))
    assert named("windows.zip") == [("windows.zip/caf\u00e9.jpg", JPEG)]


def test_damaged_archives_and_members_are_rows() -> None:
    whole = zipped("1.jpg", "2.jpg")
    Path("short.zip").write_bytes(whole[:-40])
    ((name, why),) = named("short.zip")
    assert (name, "intact zip" in str(why) or "damaged" in str(why)) == ("short.zip", True)
    Path("bad.zip").write_bytes(whole.replace(JPEG, JPEG[:-3] + b"xxx", 1))
    assert named("bad.zip") == [("bad.zip/1.jpg", "damaged"), ("bad.zip/2.jpg", JPEG)]


def test_a_bomb_is_one_row() -> None:
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}.jpg", bytes(10**7))
    ((name, why),) = named("bomb.zip")
    assert (name, "no archive of photographs" in str(why)) == ("bomb.zip", True)


def test_an_endless_input_is_too_large() -> None:
    assert named("/dev/zero", limits=SMALL) == [("/dev/zero", "too_large")]
    Path("long.jpg").write_bytes(JPEG + bytes(200))
    assert named("long.jpg", limits=SMALL) == [("long.jpg", "too_large")]


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_names_on_standard_input(separator: bytes) -> None:
    Path("a.jpg").write_bytes(JPEG)
    Path("two words.jpg").write_bytes(JPEG)
    given = separator.join([b"a.jpg", b"", b"two words.jpg", b"-", b"no.jpg"]) + separator
    assert named("-", stdin=given) == [
        ("a.jpg", JPEG),
        ("two words.jpg", JPEG),
        ("-", "No such file or directory"),
        ("no.jpg", "No such file or directory"),
    ]
    assert named("-", stdin=given * 200)[-1][0] == "no.jpg"


def test_names_that_are_no_text() -> None:
    Path(os.fsdecode(b"\xff.jpg")).write_bytes(JPEG)
    assert named("-", stdin=b"\xff.jpg\n") == [("\N{REPLACEMENT CHARACTER}.jpg", JPEG)]


def test_an_image_an_archive_or_nothing_on_standard_input() -> None:
    assert named("-", stdin=JPEG) == [("-", JPEG)]
    assert named("-", stdin=zipped("a/1.jpg")) == [("-/a/1.jpg", JPEG)]
    assert named("-", stdin=b"") == [("-", b"")]
    assert named("-", stdin=JPEG + bytes(200), limits=SMALL) == [("-", "too_large")]
    assert named("-", stdin=zipped("a") * 20, limits=SMALL) == [("-", "too_large")]


def test_urls_of_images_and_of_archives() -> None:
    with Wire(reply(JPEG), reply(zipped("a/1.jpg")), reply(b"", status="404 Not Found")) as wire:
        image, packed, gone = (wire.url(f"/{name}") for name in ("photo", "set", "gone"))
        assert named(image, packed, gone) == [
            (image, JPEG),
            (f"{packed}/a/1.jpg", JPEG),
            (gone, "gone"),
        ]


def test_a_url_may_not_send_more_than_an_image_nor_lead_into_this_network() -> None:
    with Wire(reply(JPEG + bytes(500))) as wire:
        assert named(wire.url("/"), limits=SMALL) == [(wire.url("/"), "too_large")]
        assert named(wire.url("/"), limits=LIMITS) == [(wire.url("/"), "private_address")]


def test_names_that_are_no_names_of_files() -> None:
    long = "a" * 5000
    assert named(long) == [(long, "File name too long")]
    assert named("a\0b") == [("a\0b", "not a file name")]
    assert named("-", stdin=b"https://\xff/\n")[0][1] == "bad_address"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_an_unreadable_folder_does_not_affect_other_inputs() -> None:
    _locked_away()
    assert named("in") == [("in/locked", "unreadable"), ("in/a.jpg", JPEG)]


def test_a_folder_that_fails_while_it_is_listed_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _locked_away()
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert named("in") == [("in/locked", "unreadable"), ("in/a.jpg", JPEG)]


def _locked_away() -> None:
    Path("in/locked").mkdir(parents=True)
    Path("in/a.jpg").write_bytes(JPEG)
    Path("in/locked").chmod(0)


def test_names_that_begin_as_files_do() -> None:
    for name in ("BZhang.jpg", "GIF89a.jpg", "PK.jpg"):
        Path(name).write_bytes(JPEG)
        assert named("-", stdin=f"{name}\n".encode()) == [(name, JPEG)]


def test_a_line_without_an_end_is_one_row() -> None:
    Path("a.jpg").write_bytes(JPEG)
    (long, why), last = named("-", stdin=b"a" * 3_000_000 + b"\na.jpg\n")
    assert (len(long) <= 2**16, why) == (True, "File name too long")
    assert last == ("a.jpg", JPEG)
