import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.images import decoding
from pipeline.images.formats import png
from pipeline.images.header import RejectReason, Unreadable, Warn, read_header
from pipeline.images.matrix_profile import SRGB_CURVE, grey_profile
from pipeline.stages.filter import judgement
from tests.builders.image_files import insert_chunk, png_chunk, scene
from tests.builders.odd_images import encode
from tests.builders.params import FILTER_PARAMS

PNG = encode(scene(), "PNG")
GREY = encode(Image.fromarray(scene()).convert("L"), "PNG")
PALETTE = encode(Image.fromarray(scene()).quantize(50), "PNG")


@pytest.mark.parametrize("data", [PNG, GREY, PALETTE])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iCCP", b"p\0\1" + zlib.compress(b"profile")),  # an unknown compression
        (b"iCCP", b"no end of the name"),
        (b"zTXt", b""),
        (b"tEXt", b"x" * 2**21),
        (b"acTL", bytes(8)),
        (b"eXIf", b"junk"),
        (b"gAMA", b""),
        (b"pHYs", b"\1"),
        (b"tIME", bytes(99)),
        (b"prVt", b"private"),
    ],
)
def test_faults_of_metadata_are_no_damage(data: bytes, kind: bytes, body: bytes) -> None:
    for before in (b"IDAT", b"IEND"):
        header, pixels = decoding.load(insert_chunk(data, kind, body, before), 1, 400)
        assert header.warnings == ()
        assert np.array_equal(pixels, decoding.load(data, 1, 400)[1])


def animation(picture_is_a_frame: bool) -> bytes:
    """Two frames of which the second is black, besides or with the picture."""
    black = zlib.compress(b"".join(b"\0" + bytes(70 * 3) for _ in range(60)))
    control = struct.pack(">IIIIHHBB", 70, 60, 0, 0, 1, 1, 0, 0)
    data = insert_chunk(PNG, b"acTL", struct.pack(">II", 2, 0))
    if picture_is_a_frame:
        data = insert_chunk(data, b"fcTL", struct.pack(">I", 0) + control)
    number = int(picture_is_a_frame)
    frames = b"".join(
        png_chunk(b"fcTL", struct.pack(">I", start) + control)
        + png_chunk(b"fdAT", struct.pack(">I", start + 1) + black)
        for start in ((1,) if picture_is_a_frame else (number, number + 2))
    )
    place = data.index(b"IEND") - 4
    return data[:place] + frames + data[place:]


@pytest.mark.parametrize("picture_is_a_frame", [True, False])
def test_the_picture_of_an_animation_is_taken(picture_is_a_frame: bool) -> None:
    header, pixels = decoding.load(animation(picture_is_a_frame), 1, 400)
    assert header.warnings == (Warn.FIRST_FRAME_ONLY,)
    assert np.array_equal(pixels, scene())


@pytest.mark.parametrize(
    "data",
    [
        insert_chunk(PNG, b"tEXt", b"a\0b").replace(b"a\0b", b"a\0c"),  # checksum
        encode(Image.fromarray(scene()).convert("L"), "PNG", transparency=9).replace(
            b"tRNS", b"tRNs"
        ),
        PNG[:-30] + struct.pack(">I", 2**31) + b"tEXt",
        PNG[:-30],
        PNG[:8] + PNG[33:],
    ],
    ids=["checksum", "name", "length", "end", "no IHDR"],
)
def test_damage_is_found(data: bytes) -> None:
    with pytest.raises(Unreadable) as caught:
        decoding.load(data, 1, 400)
    assert caught.value.reason is RejectReason.DAMAGED


def test_chunks_between_idat_chunks_are_damage() -> None:
    place = PNG.index(b"IDAT") - 4
    chunk = next(chunk for chunk in png.chunks(PNG) if chunk.kind == b"IDAT")
    half = len(chunk.body) // 2
    parts = [png_chunk(b"IDAT", chunk.body[:half]), png_chunk(b"IDAT", chunk.body[half:])]
    whole = PNG[:place] + b"".join(parts) + PNG[chunk.end :]
    assert np.array_equal(decoding.load(whole, 1, 400)[1], scene())
    divided = PNG[:place] + png_chunk(b"tEXt", b"a\0b").join(parts) + PNG[chunk.end :]
    with pytest.raises(Unreadable):
        decoding.load(divided, 1, 400)


def test_pixels_are_the_same_without_metadata() -> None:
    for data in (PNG, GREY, PALETTE):
        assert png.pixel_data(data) == data
        with_text = insert_chunk(data, b"tEXt", b"a\0b")
        assert png.pixel_data(with_text) == data
        assert read_header(with_text).plain is (data is PNG)


def test_a_picture_with_an_unknown_critical_chunk_is_stored_so_that_it_decodes() -> None:
    data = insert_chunk(PNG, b"ODDy", b"")
    judged = judgement.judge(data, FILTER_PARAMS)
    assert judged.reason is None
    assert judged.stored is not None
    assert np.array_equal(decoding.decode(judged.stored), scene())


def test_nothing_that_a_file_names_is_printed_when_it_is_decoded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """libpng prints the name of a colour profile that does not fit."""
    name = b"\x1b[31mred"
    data = insert_chunk(PNG, b"iCCP", name + b"\0\0" + zlib.compress(grey_profile(SRGB_CURVE)))
    assert judgement.judge(data, FILTER_PARAMS).stored is None
    assert np.array_equal(decoding.decode(data), scene())
    assert capfd.readouterr() == ("", "")


def test_a_png_of_an_iphone_program_is_unsupported() -> None:
    with pytest.raises(Unreadable) as caught:
        decoding.load(insert_chunk(PNG, b"CgBI", bytes(4), before=b"IHDR"), 1, 400)
    assert caught.value.reason is RejectReason.UNSUPPORTED
