"""Damaged objects, and those that only look like it."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.commands.doctor import cache_objects
from pipeline.commands.doctor.cache_objects import find_damage
from pipeline.core import dvc_lock


def add(folder: Path, data: bytes, suffix: str = "", stored: bytes | None = None) -> Path:
    """An object for `data`, in which `stored` is in the file."""
    name = hashlib.md5(data).hexdigest() + suffix
    path = folder / name[:2] / name[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if stored is None else stored)
    path.chmod(0o444)  # by which DVC takes it for sound
    return path


def damage(folder: Path) -> dict[Path, str]:
    return {item.object.path: item.problem for item in find_damage(folder)}


LISTING = json.dumps([{"md5": "1" * 32, "relpath": "a/b.jpg"}]).encode()


def test_sound_objects_are_not_damaged(tmp_path: Path) -> None:
    for number in range(600):  # several rounds of the threads
        add(tmp_path, b"%d" % number)
    add(tmp_path, b"")  # an empty file is an object, too
    add(tmp_path, LISTING, ".dir")
    add(tmp_path, b"[]", ".dir")
    assert damage(tmp_path) == {}


def test_every_kind_of_damage_is_reported(tmp_path: Path) -> None:
    data = b"x" * 10_000
    expected = {
        add(tmp_path, b"a" + data, stored=b""): "is empty",
        add(tmp_path, LISTING, ".dir", stored=b""): "is empty",
        add(tmp_path, b"b" + data, stored=data[:4096]): "has other bytes than its name says",
        add(tmp_path, b"c" + data, stored=b"c" + bytes(4096) + data[4096:]): (
            "has other bytes than its name says"
        ),
        add(tmp_path, b"[1]", ".dir", stored=b"[1"): "has other bytes than its name says",
        add(tmp_path, LISTING.replace(b"a/b", b"../b"), ".dir"): "is not the listing of a folder",
        add(tmp_path, LISTING.replace(b"a/b", b"/a/b"), ".dir"): "is not the listing of a folder",
        add(tmp_path, LISTING.replace(b"1111", b"../1"), ".dir"): "is not the listing of a folder",
        add(tmp_path, b"{", ".dir"): "is not the listing of a folder",
        add(tmp_path, b"[1] ", ".dir"): "is not the listing of a folder",
        add(tmp_path, b"", stored=b"late"): "has other bytes than its name says",
    }
    add(tmp_path, data)
    assert damage(tmp_path) == expected


def test_empty_objects_are_reported_before_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, b"sound")
    path = add(tmp_path, b"lost", stored=b"")
    monkeypatch.setattr(cache_objects, "_read", None)
    assert next(find_damage(tmp_path)).object.path == path


def test_files_of_other_names_are_no_objects(tmp_path: Path) -> None:
    """Such as those that DVC is writing; it renames them when they are whole."""
    folder = add(tmp_path, b"sound").parent
    for name in (".Zx3_-a.tmp", "README", "0" * 29, "0" * 31, "0" * 30 + ".unpacked"):
        (folder / name).write_bytes(b"")
    (tmp_path / ".Zx3_-b.tmp").write_bytes(b"")
    (tmp_path / "zz").mkdir()
    (tmp_path / "zz" / ("0" * 30)).write_bytes(b"")
    (tmp_path / "aa").write_bytes(b"")
    assert damage(tmp_path) == {}
    assert damage(tmp_path / "none") == {}


def test_an_object_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, b"mine")
    for error, is_permitted in ((PermissionError(13, "denied"), False), (OSError(5, "I/O"), True)):

        def fail(path: Path, error: OSError = error) -> str:
            raise error

        monkeypatch.setattr(dvc_lock, "digest", fail)
        (item,) = find_damage(tmp_path)
        assert item.problem == f"cannot be read ({error.strerror})"
        assert item.is_permitted is is_permitted


def test_an_object_that_is_removed_meanwhile_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = cache_objects.CacheObject(add(tmp_path, b"gone"), "0" * 32, 4)
    item.path.unlink()
    monkeypatch.setattr(cache_objects, "list_objects", lambda _: iter([item]))
    assert damage(tmp_path) == {}
