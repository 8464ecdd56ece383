"""Fake photos: their metadata in the API, and their bytes."""

import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

SERVER = "65535"
SUFFIXES = {
    "sq": "_s",
    "t": "_t",
    "q": "_q",
    "s": "_m",
    "n": "_n",
    "w": "_w",
    "m": "",
    "z": "_z",
    "c": "_c",
    "l": "_b",
    "b": "_b",
    "h": "_h",
    "k": "_k",
    "o": "_o",
}
"""Size, as in url_c -> suffix of the file name."""
LONGER_SIDES = {
    "sq": 75,
    "t": 100,
    "q": 150,
    "s": 240,
    "n": 320,
    "w": 400,
    "m": 500,
    "z": 640,
    "c": 800,
    "l": 1024,
    "b": 1024,
    "h": 1600,
    "k": 2048,
    "o": 3000,
}
SIZES = ("m", "n", "z", "c", "l")
OWNERS = "XAXBXCXDXBXEXFXCXGX"  # of 19 photos, one owner has 10, two have 2, five have 1
FIRST, LAST = 1_104_537_600, 1_577_836_800  # the years 2005 to 2019


@dataclass(frozen=True)
class FakePhoto:
    """A photo; use `dataclasses.replace` for variants."""

    id: str
    owner: str
    ownername: str
    title: str
    licence: int
    uploaded: int
    """Seconds since 1970."""
    keywords: frozenset[str]
    """Text and tags that find it."""
    sizes: frozenset[str] = frozenset(SIZES)
    subject: str = ""
    """Determines the colours of the picture."""
    path_alias: str | None = None

    @property
    def secret(self) -> str:
        return hashlib.md5(self.id.encode()).hexdigest()[:10]

    def path(self, size: str) -> str:
        return f"/{SERVER}/{self.id}_{self.secret}{SUFFIXES[size]}.jpg"

    def shape(self, size: str) -> tuple[int, int]:
        """Height and width by the API; the actual picture is small."""
        longest = LONGER_SIDES[size]
        pair = (longest * 3 // 4, longest)
        return pair if int(self.id) % 3 else pair[::-1]


def photos(
    keyword: str,
    count: int,
    *,
    also: Collection[str] = (),
    first: int = 0,
    sizes: Collection[str] = SIZES,
) -> list[FakePhoto]:
    """Return `count` photos with `keyword` and the words of `also`; always the same ones.

    `first` is the number of the first one.
    """
    keywords = frozenset({keyword, *also})
    start = zlib.crc32("+".join(sorted(keywords)).encode()) % 80_000 + 10_000
    return [
        _photo(keyword, start, number, keywords, sizes) for number in range(first, first + count)
    ]


def _photo(
    keyword: str, start: int, number: int, keywords: frozenset[str], sizes: Collection[str]
) -> FakePhoto:
    block, position = divmod(number, len(OWNERS))
    letter = OWNERS[position]
    share = number * 0.618034 % 1  # the golden ratio spreads any count evenly
    return FakePhoto(
        id=f"{start}{number:06}",
        owner=f"{start}{block:04}{ord(letter)}@N0{position % 2}",
        ownername=f"{keyword} lover {block}{letter}",
        title=f"Ein schöner “{keyword}”, no. {number}",
        licence=number % 17,
        uploaded=FIRST + int(share * (LAST - FIRST)),
        keywords=keywords,
        sizes=frozenset(sizes) - ({"c"} if number % 7 == 6 else set()),
        subject=keyword,
        path_alias=f"alias-{block}{letter}" if position % 3 == 0 else None,
    )


def jpeg(photo: FakePhoto, size: str, length: int | None = None, side: int = 64) -> bytes:
    """Return a valid JPEG of `length` bytes (default: 10 to 40 KB), unique to photo and size."""
    name = f"{photo.id}{SUFFIXES[size]} ".encode()
    if length is None:
        length = 10_000 + zlib.crc32(name) % 30_000
    picture = _picture(photo.subject, int(photo.id), side)
    behind = 4 + int.from_bytes(picture[4:6], "big")  # after the JFIF header
    filler = _comments(name, length - len(picture))
    return picture[:behind] + filler + picture[behind:]


def _comments(name: bytes, length: int) -> bytes:
    text = name + hashlib.sha256(name).hexdigest().encode()
    parts: list[bytes] = []
    while not parts or length >= 4:
        size = min(max(length - 4, len(text)), 65_533)
        body = (text * (size // len(text) + 1))[:size]
        parts.append(b"\xff\xfe" + (size + 2).to_bytes(2, "big") + body)
        length -= size + 4
    return b"".join(parts)


@lru_cache(maxsize=8192)
def _picture(subject: str, number: int, side: int) -> bytes:
    """Coarse noise in the subject's colour: no two are near-duplicates."""
    colour = np.frombuffer(hashlib.sha256(subject.encode()).digest()[:3], np.uint8) // 2
    noise = np.frombuffer(hashlib.shake_128(str(number).encode()).digest(192), np.uint8)
    pixels = colour + noise.reshape(8, 8, 3) // 2
    large = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.imencode(".jpg", large)[1].tobytes()


def placeholder() -> bytes:
    """The image that a removed photo redirects to."""
    return cv2.imencode(".png", np.full((375, 500, 3), 238, np.uint8))[1].tobytes()
