"""A dvc.lock that is cut off at any byte is noticed; one that is whole is not."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from dvc.utils.serialize import dumps_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.experiments.last_good_lock import read_outs
from pipeline.experiments.lock_damage import find_defect, find_loss, has_conflict
from tests import ROOT

REAL = (ROOT / "dvc.lock").read_bytes()
OUTS = {"get": frozenset({"data/raw", "data/skipped.csv"}), "test": frozenset({"a", "b"})}


def entry(path: str, digit: str, is_folder: bool = False) -> dict[str, Any]:
    md5 = digit * 32 + (".dir" if is_folder else "")
    return {"path": path, "hash": "md5", "md5": md5, "size": 1234} | (
        {"nfiles": 2} if is_folder else {}
    )


def lock(digit: str) -> bytes:
    """A lock as DVC writes it, with two stages."""
    stages = {
        "get": {
            "cmd": "python get.py " + "with many words " * 8,
            "deps": [entry("get.py", digit)],
            "params": {"params.yaml": {"get": {"workers": 64, "limit": None}}},
            "outs": [entry("data/raw", digit, is_folder=True), entry("data/skipped.csv", digit)],
        },
        "test": {
            "cmd": "python test.py",
            "deps": [entry("data/raw", digit, is_folder=True)],
            "outs": [entry("a", digit), entry("b", digit, is_folder=True)],
        },
    }
    return str(dumps_yaml({"schema": "2.0", "stages": stages})).encode()


OLD, NEW = lock("1"), lock("2")


def damage(text: bytes, last_good: bytes = OLD, outs: Mapping[str, frozenset[str]] = OUTS) -> str:
    return find_defect(text) or find_loss(text, last_good, outs)


def test_every_cut_of_the_projects_own_lock_is_noticed() -> None:
    for length in range(len(REAL)):
        assert length == 0 or find_loss(REAL[:length], REAL, {}), length
    assert not find_defect(REAL)
    assert not find_loss(REAL, REAL, {})


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_every_cut_of_a_lock_with_new_digests_is_noticed(ends: bytes) -> None:
    """No cut is the beginning of the last good lock: what is missing must be told otherwise."""
    text = NEW.replace(b"\n", ends)
    cuts = {line.end() for line in re.finditer(ends, text)}  # also where YAML is valid
    cuts |= {cut + shift for cut in cuts for shift in (-1, 5)} | {0, 1}
    for cut in sorted(cut for cut in cuts if cut < len(text)):
        assert damage(text[:cut]), (cut, text[:cut][-60:])
    assert not damage(text)


@settings(max_examples=20)
@given(st.integers(0, len(REAL) - 1))
def test_cuts_of_a_real_lock_whose_digests_have_all_changed_are_noticed(cut: int) -> None:
    changed = re.sub(rb"md5: [0-9a-f]{4}", b"md5: 0000", REAL)
    assert damage(changed[:cut], REAL, real_outs()), cut


def real_outs() -> Mapping[str, frozenset[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return read_outs()


def test_a_cut_between_two_stages_is_noticed() -> None:
    assert damage(NEW[: NEW.index(b"  test:")]) == "ends before the stage test"
    assert damage(NEW[: NEW.index(b"    - path: b")]) == "ends within the stage test"
    assert damage(b"schema: '2.0'\n") == f"ends after 14 bytes of {len(OLD)}"
    assert damage(b"schema: '2.0'\nstages: {}\n") == "ends before the stage get"


def test_zeros_in_place_of_text_are_noticed() -> None:
    """A file system that loses power may keep the size of a file and lose its bytes."""
    assert damage(b"\0" * len(NEW)) == "is empty"
    assert damage(NEW[:300] + b"\0" * (len(NEW) - 300)) == "is not YAML"


@pytest.mark.parametrize(
    ("last_good", "outs"),
    [
        (OLD, OUTS),
        (NEW, OUTS),
        (OLD, {}),  # dvc.yaml cannot be read
        (lock("3")[: OLD.index(b"  test:")], OUTS),  # the stage test has been added
        (OLD.replace(b"  test:", b"  other:"), OUTS),  # a stage has been renamed
        (OLD + b"  more:\n    cmd: x\n    outs: []\n", OUTS),  # removed from dvc.yaml, too
        (OLD.replace(b"path: b\n", b"path: c\n"), OUTS),
        (OLD.replace(b"\n", b"\r\n"), OUTS),
    ],
    ids=["new", "same", "no yaml", "added", "renamed", "removed", "other out", "windows"],
)
def test_a_whole_lock_is_good(last_good: bytes, outs: Mapping[str, frozenset[str]]) -> None:
    assert not damage(NEW, last_good, outs)


def test_an_out_that_dvc_yaml_no_longer_has_is_not_missed() -> None:
    text = NEW[: NEW.index(b"    - path: b")]
    assert not damage(text, OLD, OUTS | {"test": frozenset({"a"})})


@pytest.mark.parametrize(
    "text",
    [b"- 1\n", b"3\n", b"schema: '1.0'\n", b"stages: {}\n", b"schema: '2.0'\nstages:\n  a: 1\n"],
)
def test_what_dvc_refuses_is_a_defect(text: bytes) -> None:
    assert find_defect(text) == "is not a lock file of schema 2.0"


def test_merge_conflicts_are_distinguished_from_cuts() -> None:
    text = NEW.replace(b"    cmd", b"<<<<<<< HEAD\n    cmd", 1) + b"=======\n>>>>>>> branch\n"
    assert has_conflict(text)
    for line in (b"=======\n", b"=======\r\n", b"||||||| parent of 1a2b3c4\n"):
        assert has_conflict(OLD + line)  # where the other lines were removed by hand
    assert not has_conflict(NEW)
