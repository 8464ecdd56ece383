"""Check a split certificate: no owner, copy or near-duplicate is in two splits.

    python check_split.py split_certificate.csv

Needs Python 3.10 or newer and no package. Distances between hashes are computed here; that a hash
is that of its image can be checked by whoever has the image: `id` is the sha256 of its bytes.
"""

import argparse
import csv
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

COLUMNS = ["id", "split", "owner", "phash", "patches"]
HASH = "[0-9a-f]{16}"
FORMS = ("[0-9a-f]{64}", "train|val|test", "([0-9a-f]{64})?", HASH, f"({HASH}( {HASH}){{0,254}})?")
MAX_LINE, MAX_IMAGES, MAX_PRINTED = 100_000, 5_000_000, 20
MAX_COMPARISONS = 1000  # per hash, on average: photographs need a fraction of it
MIN_COMMON = 10  # patches that a cropped, mirrored, captioned or framed copy has in common
KEY_SHIFT, PATCH_BITS = 39, 6  # of 63 bits, the first 24 are equal, and 6 others may differ
SUSPECTED = "common patches"  # different images of one pattern may have them too


class Image(NamedTuple):
    id: str
    split: str
    owner: str
    phash: int
    patches: tuple[int, ...]


class Leak(NamedTuple):
    kind: str
    left: Image
    right: Image


def read(path: Path) -> Iterator[Image]:
    """Read a table that may be anybody's. Raises ValueError if a line is wrong."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = iter(lambda: file.readline(MAX_LINE), "")
        for number, cells in enumerate(csv.reader(lines, strict=True), start=1):
            if number == 1 and cells != COLUMNS:
                raise ValueError(f"the columns are not {','.join(COLUMNS)}")
            if number == 1:
                continue
            is_right = len(cells) == len(FORMS) and all(map(re.fullmatch, FORMS, cells))
            if not is_right or number > MAX_IMAGES:
                raise ValueError(f"line {number} is not as `pipeline export --certificate` writes")
            patches = tuple(int(text, 16) for text in cells[4].split())
            yield Image(cells[0], cells[1], cells[2], int(cells[3], 16), patches)


def find_leaks(images: list[Image], bits: int) -> Iterator[Leak]:
    """Yield pairs of images that must not be in the splits in which they are.

    Raises ValueError if the table is made to take forever.
    """
    yield from _equal("the same image", images, [image.id for image in images], everywhere=True)
    yield from _equal("the same owner", images, [image.owner for image in images])
    yield from _equal("equal hashes", images, [image.phash for image in images])
    yield from _near("near hashes", images, bits)
    yield from _common_patches(SUSPECTED, images)


def _equal(
    kind: str, images: list[Image], values: Iterable[object], everywhere: bool = False
) -> Iterator[Leak]:
    first: dict[object, Image] = {}
    for image, value in zip(images, values, strict=True):
        other = first.setdefault(value, image)
        if value != "" and other is not image and (everywhere or other.split != image.split):
            yield Leak(kind, other, image)


def _near(kind: str, images: list[Image], bits: int) -> Iterator[Leak]:
    """Hashes that differ in up to `bits` bits are equal in one of `bits + 1` blocks of bits."""
    distinct: dict[tuple[int, str], Image] = {}
    for image in images:
        distinct.setdefault((image.phash, image.split), image)
    blocks = list(pairwise(64 * block // (bits + 1) for block in range(bits + 2)))

    def keys(phash: int) -> list[tuple[int, int]]:
        return [(low, phash >> low & (1 << high - low) - 1) for low, high in blocks]

    _limit(key for phash, _ in distinct for key in keys(phash))
    buckets: defaultdict[tuple[int, int], list[Image]] = defaultdict(list)  # of those before
    for (phash, split), image in distinct.items():
        near: dict[Image, None] = {}
        for key in keys(phash):
            for other in buckets[key]:
                distance = (phash ^ other.phash).bit_count()
                if other.split != split and 0 < distance <= bits:
                    near[other] = None
            buckets[key].append(image)
        yield from (Leak(kind, other, image) for other in near)


def _common_patches(kind: str, images: list[Image]) -> Iterator[Leak]:
    _limit(patch >> KEY_SHIFT for image in images for patch in image.patches)
    buckets: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # of those before
    for number, image in enumerate(images):
        common: defaultdict[int, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        for patch in image.patches:
            for left, other in buckets[patch >> KEY_SHIFT]:
                if images[left].split != image.split and (patch ^ other).bit_count() <= PATCH_BITS:
                    common[left][0].add(other)
                    common[left][1].add(patch)
        for patch in image.patches:
            buckets[patch >> KEY_SHIFT].append((number, patch))
        for left, patches in common.items():
            if min(map(len, patches)) >= MIN_COMMON:
                yield Leak(kind, images[left], image)


def _limit(keys: Iterable[int | tuple[int, int]]) -> None:
    """Hashes with equal keys are compared with each other."""
    counts = Counter(keys).values()
    if sum(count * (count - 1) // 2 for count in counts) > MAX_COMPARISONS * sum(counts):
        raise ValueError("too many hashes begin alike to be those of photographs")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("certificate", type=Path)
    parser.add_argument(
        "--bits", type=int, default=4, choices=range(7), help="of 64, up to which hashes are near"
    )
    parser.add_argument(
        "--suspected",
        type=int,
        default=0,
        help="pairs with common patches that are accepted: the author's word that they differ",
    )
    arguments = parser.parse_args()
    try:
        images = list(read(arguments.certificate))
        counts = _print_leaks(find_leaks(images, arguments.bits))
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"error: {arguments.certificate.name!r}: {error}")
    suspected = counts.pop(SUSPECTED, 0)
    owners = {image.owner for image in images} - {""}
    with_patches = sum(bool(image.patches) for image in images)
    print(f"images: {len(images)}, with patches: {with_patches}, owners: {len(owners)}, ", end="")
    print(f"leaks: {counts.total()}, suspected copies: {suspected}")
    sys.exit(bool(counts) or suspected > arguments.suspected or not images)


def _print_leaks(leaks: Iterable[Leak]) -> "Counter[str]":
    counts = Counter[str]()
    for kind, left, right in leaks:
        counts[kind] += 1
        if counts[kind] <= MAX_PRINTED:
            print(f"{kind}: {left.id[:12]} ({left.split}) and {right.id[:12]} ({right.split})")
    return counts


if __name__ == "__main__":
    main()
