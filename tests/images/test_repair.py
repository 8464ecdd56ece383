"""Files whose end is missing: kept if, and only if, all pixels are there."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pipeline.images import decoding
from pipeline.images.formats import jpeg, jpeg_repair, png
from pipeline.images.header import RejectReason, Unreadable, Warn
from pipeline.images.pixels import Pixels
from pipeline.images.repair import mend
from pipeline.stages.filter import judgement
from tests.builders.image_files import png_chunk, riff_chunk, webp
from tests.builders.odd_images import encode
from tests.builders.params import FILTER_PARAMS

NOISE = np.random.default_rng(1).integers(0, 256, (44, 53, 3), np.uint8)
PICTURE = Image.fromarray(NOISE)
OTHER = Image.fromarray(255 - NOISE)
LAST = 40  # bytes


def cmyk_jpeg() -> bytes:
    return encode(PICTURE.convert("CMYK"), "JPEG")


def clear_palette() -> bytes:
    return encode(PICTURE.quantize(16), "PNG", transparency=3)


def interlaced() -> bytes:
    """Rows of noise in the order of Adam7."""
    rows = b""
    for x, y, step_x, step_y in png_passes():
        for row in NOISE[y::step_y, x::step_x, 0]:
            rows += b"\0" + row.tobytes()
    header = struct.pack(">IIBBBBB", 53, 44, 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png.SIGNATURE + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_passes() -> tuple[tuple[int, ...], ...]:
    return (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )


FILES = {
    "JPEG": encode(PICTURE, "JPEG", quality=90),
    "JPEG, grey": encode(PICTURE.convert("L"), "JPEG"),
    "JPEG, progressive": encode(PICTURE, "JPEG", progressive=True),
    "JPEG with restart markers": encode(PICTURE, "JPEG", restart_marker_blocks=1),
    "JPEG, CMYK": cmyk_jpeg(),
    "PNG": encode(PICTURE, "PNG"),
    "PNG, grey": encode(PICTURE.convert("L"), "PNG"),
    "PNG, 1 bit": encode(PICTURE.convert("1"), "PNG"),
    "PNG, 16 bits": encode(Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 257), "PNG"),
    "PNG, alpha": encode(PICTURE.convert("RGBA"), "PNG"),
    "PNG, clear palette": clear_palette(),
    "PNG, interlaced": interlaced(),
    "GIF": encode(PICTURE.quantize(256), "GIF"),
    "GIF, interlaced": encode(PICTURE.convert("L"), "GIF", interlace=1),
}
ANIMATED = {
    form: encode(PICTURE.quantize(64).convert("RGB"), form, save_all=True, append_images=[OTHER])
    for form in ("GIF", "PNG", "WEBP")
}


def load(data: bytes) -> tuple[tuple[Warn, ...], Pixels]:
    header, pixels = decoding.load(data, 1, 400)
    return header.warnings, pixels


def is_kept(data: bytes) -> bool:
    try:
        load(data)
    except Unreadable:
        return False
    return True


def decode_leniently(data: bytes) -> Pixels | None:
    """What a viewer shows of a file that is cut off."""
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    except (OSError, SyntaxError, ValueError):
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_is_kept_if_and_only_if_all_pixels_are_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = FILES[name]
    warnings, pixels = load(data)
    whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    for lost in range(1, LAST + 1):
        cut = data[:-lost]
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
            lenient = decode_leniently(cut)
        has_all = lenient is not None and np.array_equal(lenient, whole)
        if is_kept(cut):
            new_warnings, new_pixels = load(cut)
            assert np.array_equal(new_pixels, pixels), lost
            assert new_warnings == (*warnings, Warn.WRONG_END)
        else:
            assert not has_all, lost
    assert is_kept(data[:-1])
    assert not is_kept(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("name", FILES)
def test_a_lost_end_that_zeros_replace_hides_no_lost_pixels(name: str) -> None:
    data = FILES[name]
    pixels = load(data)[1]
    for lost in range(1, LAST + 1):
        for zeros in (lost, 4, 500):
            filled = data[:-lost] + bytes(zeros)
            if is_kept(filled):
                assert np.array_equal(load(filled)[1], pixels), (lost, zeros)


@pytest.mark.parametrize("name", FILES)
def test_what_is_stored_of_it_needs_no_repair(name: str) -> None:
    judged = judgement.judge(FILES[name][:-1], FILTER_PARAMS)
    assert judged.reason is None
    assert Warn.WRONG_END in judged.warnings
    assert judged.stored is not None
    assert judgement.judge(judged.stored, FILTER_PARAMS).warnings == ()
    assert np.array_equal(load(judged.stored)[1].shape, load(FILES[name])[1].shape)


@pytest.mark.parametrize("form", ANIMATED)
def test_the_first_frame_is_enough_of_an_animation(form: str) -> None:
    data = ANIMATED[form]
    warnings, pixels = load(data)
    for lost in (1, 5, 100, 1000):
        new_warnings, new_pixels = load(data[:-lost])
        assert np.array_equal(new_pixels, pixels)
        assert Warn.WRONG_END in new_warnings
    assert Warn.FIRST_FRAME_ONLY in warnings
    assert not is_kept(data[: len(data) // 3])


def test_a_progressive_jpeg_without_its_last_scan_is_damaged() -> None:
    data = FILES["JPEG, progressive"]
    scans = [s.start for s in jpeg.segments(data, all_scans=True) if s.marker == jpeg.SOS]
    for start in scans[1:]:
        assert not is_kept(data[:start])
    assert not is_kept(data[: data.rindex(b"\xff\xc4")])  # its tables too


def test_a_jpeg_of_a_coding_without_checks_is_not_completed() -> None:
    """Decoders take what arithmetic coding lacks for zeros, without a word."""
    cut = FILES["JPEG"][:-2]
    assert len(list(jpeg_repair.repairs(cut))) == 1
    for marker in (b"\xff\xc9", b"\xff\xca"):
        assert not list(jpeg_repair.repairs(cut.replace(b"\xff\xc0", marker, 1)))


def test_a_jpeg_that_only_a_lenient_decoder_reads_is_not_completed() -> None:
    odd = bytearray(FILES["JPEG"])
    frame = next(s for s in jpeg.segments(bytes(odd)) if s.marker == 0xC0)
    odd[frame.start + 11] = 0x31
    error = Unreadable(RejectReason.DAMAGED, "JPEG")
    assert mend(bytes(odd[:-2]), error) is None
    assert mend(FILES["JPEG"][:-2], error) is not None


def end_of(data: bytes) -> int:
    """Where the IEND chunk starts."""
    return data.rindex(b"IEND") - 4


def damaged_ends() -> dict[str, bytes]:
    data = FILES["PNG"]
    body = data[: end_of(data)]
    return {
        "another name": data[:-8] + b"IEN\0" + data[-4:],
        "a length": data[:-12] + b"\0\0\0\5" + data[-8:],
        "zeros": body + bytes(12),
        "a text cut off": body + png_chunk(b"tEXt", b"a\0b" * 20)[:30],
        "a text with a wrong checksum": body + png_chunk(b"tEXt", b"a\0b" * 20)[:-1] + b"\0",
        "spaces": body + b" " * 7,
        "a length beyond the file": body + struct.pack(">I", 2**31) + b"tEXt",
    }


@pytest.mark.parametrize("name", damaged_ends())
def test_a_damaged_end_of_a_png_is_put_right(name: str) -> None:
    warnings, pixels = load(damaged_ends()[name])
    assert np.array_equal(pixels, NOISE)
    assert warnings == (Warn.WRONG_END,)


def test_metadata_behind_the_pixels_of_a_png_survive() -> None:
    data = FILES["PNG"]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = data[: end_of(data)] + png_chunk(b"eXIf", exif.tobytes()[6:])
    warnings, pixels = load(turned)
    assert warnings == (Warn.ROTATED, Warn.WRONG_END)
    assert np.array_equal(pixels, np.rot90(NOISE, -1))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "PNG, interlaced", "PNG, clear palette"]),
    st.integers(0, 16),  # further bytes are those of the checksum of all pixels
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_damage_to_a_png_is_noticed_without_its_end_too(
    name: str, lost: int, changes: list[tuple[float, int]]
) -> None:
    """All that passes has the pixels of the original."""
    data = FILES[name]
    damaged = bytearray(data[: len(data) - lost])
    for place, value in changes:
        damaged[int(place * (len(damaged) - 9)) + 8] ^= value
    try:
        _, pixels = load(bytes(damaged))
    except Unreadable:
        return
    assert np.array_equal(pixels, load(data)[1])


@pytest.mark.parametrize("options", [{}, {"lossless": True}])
def test_a_webp_of_another_length_than_its_header_says_is_read(options: dict[str, Any]) -> None:
    data = encode(PICTURE, "WEBP", **options)
    pixels = load(data)[1]
    for error in (-100, -1, 1, 100, 2**20):
        size = struct.pack("<I", len(data) - 8 + error)
        new_warnings, new_pixels = load(data[:4] + size + data[8:])
        assert np.array_equal(new_pixels, pixels)
        assert new_warnings == (Warn.WRONG_END,)
    for lost in range(2, LAST + 1):
        assert not is_kept(data[:-lost])


def test_a_webp_without_its_last_padding_is_read() -> None:
    data = encode(PICTURE, "WEBP")
    data = webp(data[12:], riff_chunk(b"XMP ", b"odd"))
    warnings, pixels = load(data[:-1])
    assert np.array_equal(pixels, load(data)[1])
    assert warnings == (Warn.WRONG_END,)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("start", [b"\n", b"\xef\xbb\xbf", b"\r\n\r\n"])
def test_white_space_before_an_image_is_left_out(form: str, start: bytes) -> None:
    data = encode(PICTURE.quantize(64).convert("RGB"), form)
    warnings, pixels = load(start + data)
    assert warnings == (Warn.EXTRANEOUS_BYTES,)
    assert np.array_equal(pixels, load(data)[1])
    judged = judgement.judge(start + data, FILTER_PARAMS)
    assert (judged.reason, judged.warnings) == (None, (Warn.EXTRANEOUS_BYTES,))
    assert judged.stored is not None
    assert judgement.judge(judged.stored, FILTER_PARAMS).warnings == ()


def test_white_space_before_and_a_missing_end_are_two_warnings() -> None:
    warnings, pixels = load(b"\n" + FILES["PNG"][:-12])
    assert warnings == (Warn.EXTRANEOUS_BYTES, Warn.WRONG_END)
    assert np.array_equal(pixels, NOISE)


def test_a_damaged_image_behind_white_space_is_damaged() -> None:
    assert not is_kept(b"\n" + FILES["PNG"][:-100])
    with pytest.raises(Unreadable) as caught:
        load(b"1000\r\n" + FILES["JPEG"])
    assert caught.value.reason is RejectReason.NOT_AN_IMAGE
    assert caught.value.format == "image behind text"
