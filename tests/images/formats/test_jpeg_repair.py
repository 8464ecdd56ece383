import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.images import decoding
from pipeline.images.formats import jpeg
from pipeline.images.formats.jpeg_repair import repairs
from pipeline.images.header import RejectReason, Unreadable, Warn
from pipeline.stages.filter import judgement
from tests.builders.image_files import adobe_profile, insert_segment, scene
from tests.builders.odd_images import ROTATED_BY_90, encode, exif_with_entry
from tests.builders.params import FILTER_PARAMS

JPEG = encode(scene(), "JPEG", quality=90)
CMYK = encode(Image.fromarray(scene()).convert("CMYK"), "JPEG")
PROGRESSIVE = encode(scene(), "JPEG", progressive=True)
RESTARTED = encode(scene(), "JPEG", restart_marker_rows=1)
ICC = b"ICC_PROFILE\0"
END = b"\xff\xd9"


def adobe(transform: int) -> bytes:
    return b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform)


def without_jfif(data: bytes) -> bytes:
    (segment,) = (s for s in jpeg.segments(data) if s.marker == jpeg.APP0)
    return data[: segment.start] + data[segment.end :]


def before_tables(data: bytes, junk: bytes) -> bytes:
    """Insert bytes that belong to nothing."""
    place = next(s.start for s in jpeg.segments(data) if s.marker == jpeg.DQT)
    return data[:place] + junk + data[place:]


def without_first(data: bytes, marker: int) -> bytes:
    """Replace a segment's marker and length by junk, so that its table is lost."""
    start = next(s.start for s in jpeg.segments(data) if s.marker == marker)
    end = next(s.end for s in jpeg.segments(data) if s.marker == marker)
    return data[:start] + b"junk" + data[end:]


def before_later_marker(data: bytes, marker: int) -> bytes:
    """Insert zeros before a marker after the first scan."""
    scan = next(s.end for s in jpeg.segments(data) if s.marker == jpeg.SOS)
    place = data.index(bytes([0xFF, marker]), scan)
    return data[:place] + bytes(65) + data[place:]


def flat_below(value: int, **options: Any) -> bytes:
    """A JPEG whose own data end in equal bytes, because the lower half is of one colour."""
    picture = scene()
    picture[30:] = value
    return encode(picture, "JPEG", **options)


def jfif_version(major: int) -> bytes:
    place = JPEG.index(b"JFIF\0") + 5
    return JPEG[:place] + bytes([major, 0]) + JPEG[place + 2 :]


HARMLESS = {
    "JFIF version 0": jfif_version(0),
    "JFIF version 2": jfif_version(2),
    "JFIF version 3": jfif_version(3),
    "colour profile without content": insert_segment(JPEG, 0xE2, ICC + b"\1\1"),
    "colour profile, 1 of 2": insert_segment(JPEG, 0xE2, ICC + b"\1\2" + bytes(200)),
    "colour profile, 2 of 2": insert_segment(JPEG, 0xE2, ICC + b"\2\2" + bytes(200)),
    "colour profile, number 0": insert_segment(JPEG, 0xE2, ICC + b"\0\1" + bytes(200)),
    "colour profile, twice number 1": insert_segment(
        insert_segment(JPEG, 0xE2, ICC + b"\1\2" + bytes(9)), 0xE2, ICC + b"\1\2" + bytes(9)
    ),
    "Adobe transform 2 on three channels": insert_segment(without_jfif(JPEG), 0xEE, adobe(2)),
    "Adobe transform 7 on three channels": insert_segment(without_jfif(JPEG), 0xEE, adobe(7)),
    "progressive, JFIF version 0": PROGRESSIVE.replace(b"JFIF\0\1", b"JFIF\0\0", 1),
}
EXTRANEOUS = {
    "65 zeros before the end": JPEG[:-2] + bytes(65) + END,
    "8 zeros before the end": JPEG[:-2] + bytes(8) + END,
    "2000 zeros before the end": JPEG[:-2] + bytes(2000) + END,
    "spaces before the end": JPEG[:-2] + b" " * 65 + END,
    "zeros, then other bytes after the end": JPEG[:-2] + bytes(65) + END + JPEG,
    "progressive, zeros before the end": PROGRESSIVE[:-2] + bytes(65) + END,
    "zeros between scans": before_later_marker(PROGRESSIVE, jpeg.DHT),
    "zeros before a restart marker": before_later_marker(RESTARTED, 0xD1),
    "5 bytes between segments": before_tables(JPEG, b"hello"),
    "a wrong marker between segments": before_tables(JPEG, b"\xff\0\0\2"),
    "both": before_tables(JPEG, b"hello")[:-2] + bytes(65) + END,
}


SOUND = HARMLESS | EXTRANEOUS


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_jpeg_that_a_strict_decoder_refuses_is_kept(name: str) -> None:
    data = SOUND[name]
    with pytest.raises(ValueError, match=r"JFIF|Adobe|ICC|extraneous"):
        simplejpeg.decode_jpeg(data, strict=True)
    header, pixels = decoding.load(data, 1, 400)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert header.warnings == ((Warn.EXTRANEOUS_BYTES,) if name in EXTRANEOUS else ())


@pytest.mark.parametrize(
    "data", [flat_below(10, quality=90), flat_below(128, subsampling=0, restart_marker_blocks=4)]
)
def test_filler_is_distinguished_from_equal_bytes_of_the_picture(data: bytes) -> None:
    """Those before the end, or before restart markers."""
    header, pixels = decoding.load(data[:-2] + bytes(65) + END, 1, 400)
    assert header.warnings == (Warn.EXTRANEOUS_BYTES,)
    assert np.array_equal(pixels, decoding.load(data, 1, 400)[1])


@pytest.mark.parametrize(
    ("marker", "body"),
    [(0xE0, b"JFIF\0\1"), (0xED, b"Photoshop 3.0\0008BIM\xff\xff"), (0xEE, b"Adobe\0")],
)
def test_segments_that_only_pillow_refuses_are_no_damage(marker: int, body: bytes) -> None:
    odd = insert_segment(JPEG, marker, body)
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(odd))
    header, pixels = decoding.load(odd, 1, 400)
    assert header.warnings == ()
    assert np.array_equal(pixels, decoding.load(JPEG, 1, 400)[1])


@pytest.mark.parametrize("name", SOUND)
def test_what_is_stored_of_it_is_clean_and_loses_nothing(name: str) -> None:
    judged = judgement.judge(SOUND[name], FILTER_PARAMS)
    assert (judged.reason, judged.width, judged.height) == (None, 70, 60)
    assert judged.warnings == ((Warn.EXTRANEOUS_BYTES,) if name in EXTRANEOUS else ())
    assert judged.stored is not None
    pixels = simplejpeg.decode_jpeg(judged.stored, strict=True)
    assert np.array_equal(pixels, decoding.load(SOUND[name], 1, 400)[1])
    assert judgement.judge(judged.stored, FILTER_PARAMS).stored is None


def test_orientation_and_profile_survive_the_repair() -> None:
    data = insert_segment(jfif_version(0), 0xE1, b"Exif\0\0" + exif_with_entry(ROTATED_BY_90))
    data = insert_segment(data, 0xE2, ICC + b"\1\1" + adobe_profile())
    header, pixels = decoding.load(data, 1, 400)
    assert header.warnings == (Warn.ROTATED, Warn.COLOUR_CONVERTED)
    assert pixels.shape == (70, 60, 3)


@pytest.mark.parametrize("transform", [1, 9])
def test_an_unknown_transform_of_four_channels_is_the_usual_one(transform: int) -> None:
    place = CMYK.index(b"Adobe") + 11
    usual, odd = (CMYK[:place] + bytes([value]) + CMYK[place + 1 :] for value in (2, transform))
    assert np.array_equal(decoding.load(odd, 1, 400)[1], decoding.load(usual, 1, 400)[1])


WITHIN = len(JPEG) * 2 // 3  # in the picture's data


def cut(data: bytes) -> bytes:
    return data[:WITHIN] + END


def hole(data: bytes) -> bytes:
    return data[:WITHIN] + bytes(100) + data[WITHIN + 100 :]


@pytest.mark.parametrize("fault", SOUND)
@pytest.mark.parametrize("damage", [cut, hole])
def test_a_harmless_fault_hides_no_damage(fault: str, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Unreadable) as caught:
        decoding.load(damage(SOUND[fault]), 1, 400)
    assert caught.value.reason is RejectReason.DAMAGED


def last_scan(data: bytes) -> jpeg.Segment:
    return [s for s in jpeg.segments(data, all_scans=True) if s.marker == jpeg.SOS][-1]


def without_last_scan() -> bytes:
    """The last scan of a progressive JPEG, with its header, is zero."""
    start = last_scan(PROGRESSIVE).start
    return PROGRESSIVE[:start] + bytes(len(PROGRESSIVE) - start - 2) + END


DAMAGED = {
    "the last scan is zero": without_last_scan(),
    "the last bytes of the picture are zero": JPEG[:-40] + bytes(38) + END,
    "all of the picture is zero": JPEG[: JPEG.index(b"\xff\xda") + 14] + bytes(5000) + END,
    "zeros follow a picture that is cut": JPEG[:-40] + bytes(65) + END,
    "other bytes before the end": JPEG[:-2] + bytes(range(1, 66)) + END,
    "a hole between segments": before_tables(JPEG, bytes(20)),
    "many bytes between segments": before_tables(JPEG, b"x" * 65),
    "an Adobe segment cut off": insert_segment(before_tables(JPEG, b"\1"), 0xEE, adobe(1)[:-1]),
    "no colour space": before_tables(without_jfif(JPEG), b"hello"),
    "no quantization table": without_first(JPEG, jpeg.DQT),
    "no Huffman table": without_first(JPEG, jpeg.DHT),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_stays_damage(name: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decoding.load(DAMAGED[name], 1, 400)
    assert caught.value.reason is RejectReason.DAMAGED


def test_there_is_nothing_to_repair_in_a_clean_jpeg() -> None:
    for data in (JPEG, CMYK, b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0"):
        assert list(repairs(data)) == []


@settings(derandomize=True, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=6))
def test_repair_never_fails(changes: list[tuple[int, int]]) -> None:
    data = bytearray(EXTRANEOUS["both"])
    for place, value in changes:
        data[place] = value
    assert all(repair.data != data for repair in repairs(bytes(data)))
