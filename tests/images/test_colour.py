import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.images import decoding
from pipeline.images.colour import MAX_PROFILE_BYTES, find_conversion
from pipeline.images.header import RejectReason, Unreadable, Warn, read_header
from pipeline.images.matrix_profile import (
    BT_709,
    SRGB_CURVE,
    gamma_curve,
    grey_profile,
    rgb_profile,
)
from pipeline.images.pixels import Pixels
from tests.builders.image_files import (
    adobe_profile,
    bmp,
    insert_chunk,
    insert_segment,
    linear,
    scene,
    strip,
    tiff,
    to_adobe_rgb,
)
from tests.builders.odd_images import encode, orientation_exif


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def load(data: bytes) -> Pixels:
    return decoding.load(data, 1, 400)[1]


def warnings(data: bytes) -> tuple[Warn, ...]:
    return read_header(data).warnings


def assert_scene(pixels: Pixels, tolerance: float = 1.5) -> None:
    difference = np.abs(pixels.astype(int) - scene())
    assert difference.mean() < tolerance
    assert difference.max() <= 5 * tolerance


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_pixels_are_converted_from_their_profile(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    adobe = to_adobe_rgb(scene())
    assert np.abs(adobe.astype(int) - scene()).mean() > 5  # what ignoring the profile would cost
    data = encode(adobe, form, icc_profile=adobe_profile(), **options)
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    assert_scene(load(data))
    assert load(data).flags.writeable  # torch warns otherwise


def test_a_jpeg_is_converted_from_a_profile_in_several_segments() -> None:
    data = encode(to_adobe_rgb(scene()), "JPEG", quality=100, subsampling=0)
    half = len(adobe_profile()) // 2
    for number, part in ((2, adobe_profile()[half:]), (1, adobe_profile()[:half])):
        data = insert_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes([number, 2]) + part)
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    assert np.abs(load(data).astype(int) - scene()).mean() < 2


def test_conversion_and_rotation_go_together() -> None:
    sideways = np.ascontiguousarray(np.rot90(to_adobe_rgb(scene())))
    data = encode(sideways, "PNG", icc_profile=adobe_profile(), exif=orientation_exif(6))
    assert warnings(data) == (Warn.ROTATED, Warn.COLOUR_CONVERTED)
    assert_scene(load(data))


def test_transparent_pixels_are_converted_before_they_are_put_on_white() -> None:
    alpha = np.full((60, 70), 255, np.uint8)
    alpha[:, :5] = 0
    picture = Image.fromarray(np.dstack([to_adobe_rgb(scene()), alpha]))
    pixels = load(encode(picture, "PNG", icc_profile=adobe_profile()))
    assert (pixels[:, :5] == 255).all()
    assert np.abs(pixels[:, 5:].astype(int) - scene()[:, 5:]).mean() < 1.5


def test_a_palette_is_converted() -> None:
    picture = Image.fromarray(to_adobe_rgb(scene())).quantize(200)
    data = encode(picture, "PNG", icc_profile=adobe_profile())
    plain = load(encode(picture, "PNG"))
    assert np.abs(load(data).astype(int) - scene()).mean() < np.abs(plain - scene()).mean() / 2


def test_grey_pixels_are_converted_by_a_grey_profile() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (40, 1))
    light = (linear(ramp) * 255).round().astype(np.uint8)
    data = encode(Image.fromarray(light), "PNG", icc_profile=grey_profile(gamma_curve(1)))
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    pixels = load(data)[0, :, 0].astype(int)
    assert np.abs(pixels - ramp[0])[100:].max() <= 2  # dark levels are lost in linear light
    same = encode(Image.fromarray(ramp), "PNG", icc_profile=grey_profile(SRGB_CURVE))
    assert warnings(same) == ()


def test_sixteen_bits_are_converted_after_reduction() -> None:
    deep = to_adobe_rgb(scene())[:, :, ::-1].astype(np.uint16) * 257
    data = cv2.imencode(".png", deep)[1].tobytes()
    body = b"p\0\0" + zlib.compress(adobe_profile())
    data = insert_chunk(data, b"iCCP", body)
    assert warnings(data) == (Warn.REDUCED_TO_8_BIT, Warn.COLOUR_CONVERTED)
    assert_scene(load(data))


def cmyk_profile() -> bytes:
    """A CMYK profile whose black ink is weak: its table is of 2 x 2 x 2 x 2 colours in Lab."""
    levels = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(
        struct.pack(">3H", round(max(0, 1 - 0.2 * (c + m + y) - 0.2 * k) * 65280), 32768, 32768)
        for c, m, y, k in levels
    )
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    ramp = struct.pack(">2H", 0, 65535)
    lut = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + struct.pack(">2H", 2, 2)
    lut += ramp * 4 + table + ramp * 3
    offset = 128 + 4 + 12
    header = struct.pack(
        ">I4xI4s4s4s12x4s", offset + len(lut), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", offset, len(lut)) + lut


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_own_profile(form: str) -> None:
    """By the profile, full cyan is a light grey; without one, it is cyan."""
    cyan = Image.new("CMYK", (64, 48), (255, 0, 0, 0))
    data = encode(cyan, form, icc_profile=cmyk_profile())
    assert warnings(data) == (Warn.CMYK_CONVERTED, Warn.COLOUR_CONVERTED)
    red, green, blue = load(data)[5, 5].tolist()
    assert max(red, green, blue) - min(red, green, blue) <= 2
    assert 150 < red < 240
    without = load(encode(cyan, form))[5, 5].tolist()
    assert without[0] < 5
    assert min(without[1:]) > 250


def test_srgb_by_another_name_keeps_the_bytes() -> None:
    named = rgb_profile(BT_709, SRGB_CURVE)
    assert named
    for profile in (srgb_profile(), named):
        for form in ("JPEG", "PNG"):
            header = read_header(encode(scene(), form, icc_profile=profile))
            assert header.plain
            assert header.conversion is None


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"no profile",
        bytes(2000),
        adobe_profile()[:200],
        adobe_profile()[:-30],
        adobe_profile().replace(b"RGB ", b"CMYK", 1),
        adobe_profile().replace(b"mntr", b"link", 1),
        grey_profile(gamma_curve(1)),
        cmyk_profile(),
        adobe_profile().ljust(MAX_PROFILE_BYTES + 1, b"\0"),
    ],
    ids=["empty", "text", "zeros", "cut", "cut tag", "space", "link", "grey", "cmyk", "huge"],
)
def test_a_profile_that_cannot_be_used_is_as_if_it_were_not_there(profile: bytes) -> None:
    assert find_conversion((profile,), "RGB") is None
    assert np.array_equal(load(encode(scene(), "PNG", icc_profile=profile)), scene())


def test_changed_bytes_in_a_profile_are_no_error() -> None:
    random = np.random.default_rng(0)
    for source, mode in ((adobe_profile(), "RGB"), (cmyk_profile(), "CMYK")):
        for _ in range(150):
            profile = bytearray(source)
            for place in random.integers(0, len(profile), 4):
                profile[place] = random.integers(256)
            conversion = find_conversion((bytes(profile),), mode)
            if conversion:
                channels = len(mode)
                assert conversion.apply(np.zeros((2, 2, channels), np.uint8)).shape == (2, 2, 3)


@pytest.mark.parametrize("picture", [scene(), Image.fromarray(scene()).convert("L")])
def test_the_gamma_of_a_png_counts(picture: Pixels | Image.Image) -> None:
    values = np.asarray(picture)
    light = (linear(values) * 255).round().astype(np.uint8)
    data = insert_chunk(encode(Image.fromarray(light), "PNG"), b"gAMA", struct.pack(">I", 100_000))
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    expected = values if values.ndim == 3 else values[:, :, None]
    bright = expected > 60
    assert np.abs((load(data).astype(int) - expected) * bright).max() <= 3


CHRM_ADOBE = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
CHRM_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
GAMA_ADOBE, GAMA_SRGB = struct.pack(">I", 45471), struct.pack(">I", 45455)


def test_the_primaries_of_a_png_count() -> None:
    data = encode(to_adobe_rgb(scene()), "PNG")
    data = insert_chunk(insert_chunk(data, b"gAMA", GAMA_ADOBE), b"cHRM", CHRM_ADOBE)
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    assert_scene(load(data))


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", GAMA_SRGB)],
        [(b"gAMA", GAMA_SRGB), (b"cHRM", CHRM_SRGB)],
        [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))],
        [(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100_000))],
        [(b"gAMA", bytes(4))],
        [(b"gAMA", b"\0")],
        [(b"cHRM", bytes(32))],
        [(b"cICP", bytes([2, 2, 0, 1]))],
    ],
)
def test_a_png_that_declares_srgb_or_nonsense_keeps_its_bytes(
    chunks: list[tuple[bytes, bytes]],
) -> None:
    data = encode(scene(), "PNG")
    for kind, body in chunks:
        data = insert_chunk(data, kind, body)
    assert read_header(data).plain


def test_cicp_comes_before_a_profile() -> None:
    """Display P3 as code points, with the profile of Adobe RGB."""
    data = encode(scene(), "PNG", icc_profile=adobe_profile())
    both = insert_chunk(data, b"cICP", bytes([12, 13, 0, 1]))
    alone = insert_chunk(encode(scene(), "PNG"), b"cICP", bytes([12, 13, 0, 1]))
    assert warnings(both) == (Warn.COLOUR_CONVERTED,)
    assert np.array_equal(load(both), load(alone))
    assert not np.array_equal(load(both), load(data))


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_unsupported(transfer: int) -> None:
    data = insert_chunk(encode(scene(), "PNG"), b"cICP", bytes([9, transfer, 0, 1]))
    with pytest.raises(Unreadable) as caught:
        read_header(data)
    assert caught.value.reason is RejectReason.UNSUPPORTED


def test_a_bmp_may_contain_a_profile() -> None:
    adobe = to_adobe_rgb(scene(60, 72))
    rows = adobe[::-1, :, ::-1].tobytes()
    data = bmp(72, 60, 24, rows, header_bytes=124, profile=adobe_profile())
    assert Image.open(io.BytesIO(data)).size == (72, 60)
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    assert np.abs(load(data).astype(int) - scene(60, 72)).max() <= 4


def test_a_gif_may_contain_a_profile() -> None:
    data = encode(Image.fromarray(to_adobe_rgb(scene())).quantize(250), "GIF")
    place = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    profile = adobe_profile()
    blocks = b"".join(
        bytes([len(part)]) + part
        for part in (profile[start : start + 255] for start in range(0, len(profile), 255))
    )
    data = data[:place] + b"!\xff\x0bICCRGBG1012" + blocks + b"\0" + data[place:]
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    assert np.abs(load(data).astype(int) - scene()).mean() < 4


def test_lab_is_converted_and_greys_stay_grey() -> None:
    levels = np.repeat(np.linspace(0, 255, 48).astype(np.uint8), 64)
    lab = np.zeros((48 * 64, 3), np.uint8)
    lab[:, 0] = levels  # a and b are 0, as signed numbers
    data = tiff(lab.tobytes(), strip(64, 48, (8, 8, 8), 8, lab.size))
    assert warnings(data) == (Warn.COLOUR_CONVERTED,)
    pixels = load(data).astype(int)
    assert np.ptp(pixels, axis=2).max() <= 1
    assert pixels[0].max() <= 1
    assert pixels[-1].min() >= 254
    middle = pixels[24, 0, 0] / 255  # L* 51
    assert middle == pytest.approx(1.055 * ((52.4 + 16) / 116) ** (3 / 2.4) - 0.055, abs=0.03)
