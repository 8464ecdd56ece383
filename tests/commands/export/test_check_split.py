"""The checker finds each kind of leak, and nothing else."""

import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.export import check_split
from pipeline.commands.export.check_split import COLUMNS, MIN_COMMON, Image, find_leaks

BITS = 4


def image(number: int, split: str = "train", **values: Any) -> Image:
    """An image that is far from all others."""
    chance = random.Random(number)
    patches = tuple(chance.getrandbits(63) for _ in range(30))
    return Image(f"{number:064x}", split, "", chance.getrandbits(64), patches)._replace(**values)


def kinds(*images: Image, bits: int = BITS) -> list[str]:
    return [leak.kind for leak in find_leaks(list(images), bits)]


def flip(number: int, *places: int) -> int:
    for place in places:
        number ^= 1 << place
    return number


def test_different_images_are_no_leak() -> None:
    assert not kinds(image(1), image(2, "val"), image(3, "test"))


def test_an_image_that_is_there_twice_is_a_leak() -> None:
    assert kinds(image(1), image(2, "test", id=image(1).id)) == ["the same image"]
    assert kinds(image(1), image(2, id=image(1).id)) == ["the same image"]


def test_an_owner_in_two_splits_is_a_leak() -> None:
    assert kinds(image(1, owner="a" * 64), image(2, "val", owner="a" * 64)) == ["the same owner"]
    assert not kinds(image(1, owner="a" * 64), image(2, owner="a" * 64))
    assert not kinds(image(1, owner="a" * 64), image(2, "val", owner="b" * 64))


def test_equal_hashes_in_two_splits_are_a_leak() -> None:
    phash = image(1).phash
    assert kinds(image(1), image(2, "test", phash=phash)) == ["equal hashes"]
    assert not kinds(image(1), image(2, phash=phash))
    assert kinds(image(1), image(2, phash=phash), image(3, "test", phash=phash))


@pytest.mark.parametrize("places", [(0,), (63,), (0, 13, 26, 63), (60, 61, 62, 63)])
def test_near_hashes_in_two_splits_are_a_leak(places: tuple[int, ...]) -> None:
    near = flip(image(1).phash, *places)
    assert kinds(image(1), image(2, "test", phash=near)) == ["near hashes"]
    assert not kinds(image(1), image(2, phash=near))
    assert not kinds(image(1), image(2, "test", phash=near), bits=len(places) - 1)


def test_hashes_one_bit_too_far_are_no_leak() -> None:
    far = flip(image(1).phash, 1, 14, 27, 40, 53)
    assert not kinds(image(1), image(2, "test", phash=far))


@pytest.mark.parametrize("bits", range(7))
def test_blocks_miss_no_pair(bits: int) -> None:
    chance = random.Random(bits)
    base = [chance.getrandbits(64) for _ in range(8)]
    hashes = [
        flip(chance.choice(base), *chance.sample(range(64), chance.randrange(9)))
        for _ in range(150)
    ]
    images = [
        image(n, chance.choice(["train", "val", "test"]), phash=h, patches=())
        for n, h in enumerate(sorted(set(hashes)))
    ]
    expected = {
        frozenset((left.id, right.id))
        for left, right in combinations(images, 2)
        if left.split != right.split and (left.phash ^ right.phash).bit_count() <= bits
    }
    leaks = list(find_leaks(images, bits))
    assert {frozenset((leak.left.id, leak.right.id)) for leak in leaks} == expected
    assert len(leaks) == len(expected)
    assert bool(expected) == (bits > 0)


def test_a_copy_with_enough_common_patches_is_a_leak() -> None:
    def other(common: int, *places: int) -> Image:
        patches = [flip(patch, *places) for patch in image(1).patches[:common]]
        return image(2, "test", patches=(*patches, *image(2).patches[common:]))

    assert kinds(image(1), other(MIN_COMMON)) == ["common patches"]
    assert kinds(image(1), other(MIN_COMMON, 0, 7, 14, 21, 28, 38)) == ["common patches"]
    assert not kinds(image(1), other(MIN_COMMON - 1))
    assert not kinds(image(1), other(MIN_COMMON, 0, 5, 10, 15, 20, 25, 30))  # seven bits
    assert not kinds(image(1), other(MIN_COMMON, 39))  # of those that must be equal
    assert not kinds(image(1), other(MIN_COMMON)._replace(split="train"))


def test_one_patch_that_many_resemble_is_no_leak() -> None:
    repeated = tuple(flip(image(1).patches[0], place) for place in range(20))
    assert not kinds(image(1), image(2, "test", patches=repeated))


def test_a_table_that_would_take_forever_is_refused() -> None:
    patches = tuple(range(255))  # that begin alike
    with pytest.raises(ValueError, match="too many hashes begin alike"):
        kinds(*(image(number, patches=patches) for number in range(10)))
    hashes = [number << 16 for number in range(4000)]
    with pytest.raises(ValueError, match="too many hashes begin alike"):
        kinds(*(image(n, phash=phash, patches=()) for n, phash in enumerate(hashes)))


def line(picture: Image) -> str:
    patches = " ".join(f"{patch:016x}" for patch in picture.patches)
    return f"{picture.id},{picture.split},{picture.owner},{picture.phash:016x},{patches}\n"


def run(folder: Path, text: str | bytes, *words: str) -> "subprocess.CompletedProcess[str]":
    """The program as a stranger runs it, without packages."""
    table = folder / "table.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    program = [sys.executable, "-I", "-S", check_split.__file__, str(table), *words]
    return subprocess.run(program, capture_output=True, text=True)


HEADER = ",".join(COLUMNS) + "\n"


def test_the_program_says_that_there_is_no_leak(tmp_path: Path) -> None:
    result = run(tmp_path, HEADER + line(image(1, owner="a" * 64)) + line(image(2, "test")))
    assert result.stdout == (
        "images: 2, with patches: 2, owners: 1, leaks: 0, suspected copies: 0\n"
    )
    assert result.returncode == 0


def test_the_program_names_leaks(tmp_path: Path) -> None:
    near = image(2, "test", phash=flip(image(1).phash, 1, 2))
    result = run(tmp_path, HEADER + line(image(1)) + line(near))
    assert result.stdout.splitlines()[0] == (
        f"near hashes: {image(1).id[:12]} (train) and {near.id[:12]} (test)"
    )
    assert result.returncode == 1
    assert run(tmp_path, HEADER + line(image(1)) + line(near), "--bits", "1").returncode == 0


def test_suspected_copies_are_named_and_accepted_by_their_number(tmp_path: Path) -> None:
    table = HEADER + line(image(1)) + line(image(2, "test", patches=image(1).patches))
    result = run(tmp_path, table)
    assert result.stdout.startswith(f"common patches: {image(1).id[:12]} (train) and ")
    assert result.stdout.endswith("leaks: 0, suspected copies: 1\n")
    assert result.returncode == 1
    assert run(tmp_path, table, "--suspected", "1").returncode == 0
    assert (
        run(
            tmp_path, table + line(image(3, "val", phash=image(1).phash)), "--suspected", "1"
        ).returncode
        == 1
    )


GOOD = line(image(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,split\n",
        HEADER + GOOD.replace("train", "trial"),
        HEADER + GOOD.upper(),
        HEADER + GOOD[1:],
        HEADER + GOOD.replace(",,", ",Jo,"),
        HEADER + GOOD.rstrip() + ",more\n",
        HEADER + "\n",
        HEADER + '"' + GOOD,
        HEADER + GOOD.replace(" ", "  "),
        HEADER + GOOD.replace(" ", ""),
        HEADER + GOOD[:-1] + " \n",
        HEADER + GOOD[:-1] + "\x1b[31m\n",
        HEADER + "a" * 300_000,
        HEADER + GOOD[:-1] + " 0123456789abcdef" * 300 + "\n",
        HEADER + '"' + "a\n" * 300_000,
        (HEADER + GOOD).encode() + b"\xff\xfe\n",
        (HEADER + GOOD).encode("utf-16"),
        b"\0" * 100,
    ],
)
def test_another_file_is_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    result = run(tmp_path, text)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    if text:
        assert result.stderr.startswith("error: 'table.csv': ")
        assert len(result.stderr) < 300
        assert "\x1b" not in result.stderr
    else:
        assert result.stdout.startswith("images: 0,")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    program = [sys.executable, check_split.__file__, str(tmp_path / "none.csv")]
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: 'none.csv': ")
