"""The chunks of a PNG: those that make its pixels, and metadata wherever they stand."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from pipeline.images.formats.metadata import Metadata
from pipeline.images.matrix_profile import (
    BT_709,
    BT_709_CURVE,
    D65,
    SRGB_CURVE,
    Chromaticities,
    ToneCurve,
    gamma_curve,
    grey_profile,
    rgb_profile,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 100_000
MAX_TEXTS = 16  # that are decompressed
BIT_DEPTH = 24  # its place in the file
MAX_INFLATED_BYTES = 4 * 2**20  # of a text or colour profile; larger ones are ignored
PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
APPLE = b"CgBI"  # a chunk of PNGs in programs for the iPhone
MAX_CLEAN_BYTES = 2**20  # of a chunk of metadata
XMP = b"XML:com.adobe.xmp"
RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")  # ImageMagick's and exiftool's
RAW_XMP = b"Raw profile type xmp"
APP1_XMP = b"http://ns.adobe.com/xap/1.0/\0"
# cICP's primaries and transfer functions (ITU-T H.273); others are ignored.
PRIMARIES = {
    1: BT_709,
    5: Chromaticities(D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),  # BT.601, 625 lines
    6: Chromaticities(D65, (0.63, 0.34), (0.31, 0.595), (0.155, 0.07)),  # BT.601, 525 lines
    9: Chromaticities(D65, (0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),  # BT.2020
    12: Chromaticities(D65, (0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),  # Display P3
}
TRANSFERS = dict.fromkeys((1, 6, 14, 15), BT_709_CURVE) | {
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    8: gamma_curve(1),
    13: SRGB_CURVE,
}
HDR_TRANSFERS = {16, 18}  # PQ and HLG
USUAL_GAMMA, GAMMA_TOLERANCE = 0.45455, 0.05  # libpng takes gammas this close as sRGB's
SAME_POINT = 0.002  # CIE xy
GAMMAS = (0.1, 10)  # beyond these a gAMA chunk means nothing


@dataclass(frozen=True)
class PngChunk:
    """A chunk; `data[start:end]` includes its length and checksum."""

    kind: bytes
    body: bytes
    start: int
    end: int


def chunks(data: bytes) -> Iterator[PngChunk]:
    """Yield the chunks up to IEND; the last one may be cut off."""
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + length
        yield PngChunk(kind, data[position + 8 : end - 4], position, end)
        if kind == b"IEND":
            return
        position = end


def is_png(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def pixel_data(data: bytes) -> bytes:
    """The PNG without metadata and further frames.

    Decoders refuse a picture for faults of its metadata, and take different frames of an animation.
    What shows damage stays: a chunk with a wrong checksum, which may have had another name, and
    chunks between IDAT chunks, where none may be.
    """
    pieces, between = [SIGNATURE], list[bytes]()
    has_pixels = False
    for chunk in chunks(data):
        whole = data[chunk.start : chunk.end]
        if chunk.kind in PIXEL_CHUNKS or not is_sound(whole):
            pieces += [*between, whole] if chunk.kind == b"IDAT" else [whole]
            between, has_pixels = [], has_pixels or chunk.kind == b"IDAT"
        elif has_pixels:
            between.append(whole)
    return b"".join(pieces)


def is_cut_off(data: bytes) -> bool:
    """Whether a chunk has a length beyond the file, which OpenCV would allocate."""
    return any(chunk.end > len(data) for chunk in chunks(data))


def is_clean(data: bytes) -> bool:
    """Whether every decoder reads the file, because the rest is small and of no critical kind."""
    return all(
        chunk.kind in PIXEL_CHUNKS
        or (chunk.kind[:1].islower() and len(chunk.body) <= MAX_CLEAN_BYTES)
        for chunk in chunks(data)
    )


def is_sound(chunk: bytes) -> bool:
    """Whether the checksum of a chunk is right."""
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def read_significant_bits(data: bytes) -> int:
    """The bits of the original samples of grey or colours (sBIT); 0 if they are not named."""
    body = next((chunk.body for chunk in chunks(data) if chunk.kind == b"sBIT"), b"")
    return max(body[: 1 if len(body) <= 2 else 3], default=0)


def has_frames(data: bytes) -> bool:
    """Whether there are frames of an animation besides the picture itself."""
    return any(chunk.kind == b"fdAT" for chunk in chunks(data))


def is_supported(data: bytes) -> bool:
    """Whether this kind of PNG is read.

    Not those of high dynamic range, whose pixels mean absolute or scene light, for which 8 bits of
    sRGB have no rule, and not Apple's, whose pixels are packed in another way.
    """
    return not any(
        chunk.kind == APPLE
        or (chunk.kind == b"cICP" and len(chunk.body) == 4 and chunk.body[1] in HDR_TRANSFERS)
        for chunk in chunks(data)
    )


def read_metadata(data: bytes) -> Metadata:
    """EXIF comes from eXIf before raw profiles, wherever they stand."""
    bodies: dict[bytes, bytes] = {}
    texts: list[tuple[bytes, bytes]] = []
    for chunk in chunks(data):
        if chunk.kind in {b"tEXt", b"zTXt", b"iTXt"} and len(texts) < MAX_TEXTS:
            texts += _text(chunk)
        else:
            bodies.setdefault(chunk.kind, chunk.body)
    raw_exif = [_raw_profile(text) for key, text in texts if key in RAW_EXIF]
    raw_xmp = [_raw_profile(text) for key, text in texts if key == RAW_XMP]
    return Metadata(
        exif=tuple(body for body in (bodies.get(b"eXIf", b""), *raw_exif) if body),
        xmp=(
            *(text for key, text in texts if key == XMP),
            *raw_xmp,
            *(body.removeprefix(APP1_XMP) for body in raw_exif if body.startswith(APP1_XMP)),
        ),
        profiles=tuple(_profiles(bodies)),
    )


def _text(chunk: PngChunk) -> Iterator[tuple[bytes, bytes]]:
    """The keyword and text of a chunk that may hold EXIF or XMP; empty if it is too large."""
    keyword, _, text = chunk.body.partition(b"\0")
    if keyword not in {*RAW_EXIF, RAW_XMP, XMP}:
        return
    is_compressed = chunk.kind == b"zTXt"
    if chunk.kind == b"zTXt":
        text = text[1:]  # the method
    elif chunk.kind == b"iTXt":
        is_compressed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]  # after language and translation
    if is_compressed:
        text = _inflate(text)
    yield keyword, text


def _inflate(data: bytes) -> bytes:
    """Decompress; empty if that is impossible or too large."""
    try:
        decompressor = zlib.decompressobj()
        inflated = decompressor.decompress(data, MAX_INFLATED_BYTES)
    except zlib.error:
        return b""
    return b"" if decompressor.unconsumed_tail else inflated


def _raw_profile(text: bytes) -> bytes:
    """The bytes of a "Raw profile" text: a name, a length and hexadecimal digits."""
    *start, digits = text.rstrip(b"\0").split(None, 2) if text else [b""]
    try:
        return bytes.fromhex(digits.decode("ascii")) if len(start) == 2 else b""
    except ValueError:
        return b""


def _profiles(bodies: dict[bytes, bytes]) -> Iterator[bytes]:
    """Descriptions of the colour space, by the precedence of PNG's third edition.

    cICP, iCCP, and, unless there is an sRGB chunk, gAMA with cHRM.
    """
    is_grey = bodies.get(b"IHDR", b"")[9:10] in (b"\0", b"\4")
    cicp = tuple(bodies.get(b"cICP", b""))
    if len(cicp) == 4 and cicp[0] in PRIMARIES and cicp[1] in TRANSFERS and cicp[2:] == (0, 1):
        yield from _numeric_profile(is_grey, PRIMARIES[cicp[0]], TRANSFERS[cicp[1]])
    if profile := _inflate(bodies.get(b"iCCP", b"").partition(b"\0")[2][1:]):
        yield profile
    if b"sRGB" not in bodies:
        yield from _described(is_grey, bodies.get(b"gAMA", b""), bodies.get(b"cHRM", b""))


def _described(is_grey: bool, gama: bytes, chrm: bytes) -> Iterator[bytes]:
    """The profile of gAMA and cHRM chunks; none where both mean sRGB."""
    gamma = int.from_bytes(gama, "big") / 1e5 if len(gama) == 4 else USUAL_GAMMA
    points = [value / 1e5 for value in struct.unpack(">8I", chrm)] if len(chrm) == 32 else []
    pairs = list(zip(points[::2], points[1::2], strict=True))
    space = Chromaticities(*pairs) if pairs else BT_709
    is_usual = abs(gamma / USUAL_GAMMA - 1) <= GAMMA_TOLERANCE
    if GAMMAS[0] <= gamma <= GAMMAS[1] and not (is_usual and (is_grey or _is_srgb(space))):
        curve = SRGB_CURVE if not gama else gamma_curve(1 / gamma)
        yield from _numeric_profile(is_grey, space, curve)


def _is_srgb(space: Chromaticities) -> bool:
    pairs = zip(astuple(space), astuple(BT_709), strict=True)
    return all(abs(x - x0) + abs(y - y0) < SAME_POINT for (x, y), (x0, y0) in pairs)


def _numeric_profile(is_grey: bool, space: Chromaticities, curve: ToneCurve) -> Iterator[bytes]:
    profile = grey_profile(curve) if is_grey else rgb_profile(space, curve)
    if profile:
        yield profile
