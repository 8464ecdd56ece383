"""The expected verdicts on 77 malformed or tricky files from the tests of image libraries.

`why` gives the reason where a verdict differs from the behaviour of a decoder in the archive's
MANIFEST.csv (`pil_load`, `cv2_color`).
"""

from dataclasses import dataclass

from pipeline.images.header import RejectReason, Warn


@dataclass(frozen=True)
class Expected:
    reason: RejectReason | None = None
    warnings: tuple[Warn, ...] = ()
    why: str = ""


SMALL = Expected(RejectReason.TOO_SMALL, why="sound, but its shorter side is below 32 pixels")
DAMAGED = Expected(RejectReason.DAMAGED)
FUZZED = Expected(RejectReason.DAMAGED, why="Pillow or OpenCV accept it; its data are nonsense")
HARMLESS = Expected(why="its pixels are intact, only the metadata are odd")
ROTATED = Expected(None, (Warn.ROTATED,))
CLEAR = Expected(None, (Warn.TRANSPARENCY_FLATTENED,))
CMYK = Expected(None, (Warn.CMYK_CONVERTED,))
DEEP = Expected(None, (Warn.REDUCED_TO_8_BIT,))
PLAIN = Expected()
UNSUPPORTED = Expected(RejectReason.UNSUPPORTED)
LINEAR = "its gAMA chunk says that its values are linear"
LINEAR_CLEAR = Expected(None, (*CLEAR.warnings, Warn.COLOUR_CONVERTED), LINEAR)

EXPECTED: dict[str, Expected] = {
    "zero_byte/empty.jpg": Expected(RejectReason.EMPTY),
    "truncated/vips_truncated.jpg": DAMAGED,
    "truncated/truncated_end_chunk.png": Expected(
        None, (Warn.WRONG_END,), "its pixels are whole, with the right checksum"
    ),
    "truncated/truncated_app14.jpg": Expected(
        RejectReason.DAMAGED, why="both decode it, but with the marker its colour transform is lost"
    ),
    "truncated/x_unexpected_eof.png": DAMAGED,
    "corrupt_png/broken.png": DAMAGED,
    "corrupt_png/unknown_compression_method.png": Expected(
        RejectReason.DAMAGED, why="OpenCV makes something of it; a checksum is wrong"
    ),
    "corrupt_png/hopper_idat_after_image_end.png": HARMLESS,
    "corrupt_png/xcsn0g01.png": Expected(
        RejectReason.DAMAGED, why="a checksum is wrong; Pillow loads it without looking"
    ),
    "corrupt_png/xcrn0g04.png": Expected(
        RejectReason.NOT_AN_IMAGE, why="its signature is broken, so it is no PNG by content"
    ),
    "corrupt_png/x_consecutive_idat.png": DAMAGED,
    "corrupt_jpeg/missing-sos.jpg": DAMAGED,
    "corrupt_jpeg/null_height.jpg": DAMAGED,
    "corrupt_jpeg/derive-huffman-codes-overflow.jpg": DAMAGED,
    "corrupt_jpeg/multiple-0xff-before-eoi.jpg": HARMLESS,
    "corrupt_jpeg/jpeg_ff00_header.jpg": Expected(
        None, (Warn.EXTRANEOUS_BYTES,), "its tables and colour space are complete"
    ),
    "corrupt_jpeg/invalid-exif.jpg": HARMLESS,
    "fuzzed_jpeg/194531363df5b73f59c4c0517422f917.jpg": FUZZED,
    "fuzzed_jpeg/21ad703b38e2c350215bb92a849486f3.jpg": DAMAGED,
    "fuzzed_jpeg/28c74d9284d9836017fd519f6932efd8.jpg": FUZZED,
    "fuzzed_jpeg/3976a754ef0aca80e84e2c403d714579.jpg": HARMLESS,
    "fuzzed_jpeg/4838ece0d3900220d33528ee027289bc.jpg": FUZZED,
    "fuzzed_jpeg/627c0779eb46b98f751187c5c9f43aa3.jpg": DAMAGED,
    "fuzzed_jpeg/72d091e08c93c9e590360130fa35221b.jpg": DAMAGED,
    "fuzzed_jpeg/79f5fc6bca756e1f067c6fc83e18b32e.jpg": FUZZED,
    "fuzzed_jpeg/865db3dd2d380626f16b6f9dc6d62dba.jpg": HARMLESS,
    "fuzzed_jpeg/96b3e939852157613fa2e48d58fe35fe.jpg": FUZZED,
    "fuzzed_jpeg/a17806f32b45d63eea5230e7893e1f15.jpg": FUZZED,
    "fuzzed_jpeg/b5369bcbddca7135a5708c5237ad64e4.jpg": DAMAGED,
    "fuzzed_jpeg/d15b71b8cebe35a57cc6e996cc09218b.jpg": DAMAGED,
    "fuzzed_jpeg/f012a4321f00f12af6b1eee7580ffb9c.jpg": Expected(
        RejectReason.NOT_AN_IMAGE, why="not even its first bytes are left"
    ),
    "fuzzed_jpeg/f6d3f522dcb693d9e731d5a0fb4e1393.jpg": DAMAGED,
    "bomb/decompression_bomb.gif": Expected(RejectReason.TOO_MANY_PIXELS),
    "bomb/decompression_bomb.ico": UNSUPPORTED,
    "bomb/max_size.jpg": Expected(RejectReason.TOO_MANY_PIXELS),
    "cmyk_ycck/pil_sample_cmyk.jpg": CMYK,
    "cmyk_ycck/jpg-cmyk-2.jpg": CMYK,
    "cmyk_ycck/tiff_strip_cmyk_jpeg.tif": CMYK,
    "depth16/basn2c16.png": Expected(None, (*DEEP.warnings, Warn.COLOUR_CONVERTED), LINEAR),
    "depth16/monkey16.png": DEEP,
    "depth16/monkey12.jpg": UNSUPPORTED,
    "palette_alpha/tbbn3p08.png": LINEAR_CLEAR,
    "palette_alpha/pil123p.png": LINEAR_CLEAR,
    "palette_alpha/basn4a08.png": LINEAR_CLEAR,
    "palette_alpha/rgb_trns.png": CLEAR,
    "gray/hopper_gray.jpg": PLAIN,
    "gray/grayscale_long.jpg": SMALL,
    "progressive/tower_progressive.jpg": PLAIN,
    "progressive/testimgari.jpg": PLAIN,
    "exif_orientation/hopper_orientation_3.jpg": ROTATED,
    "exif_orientation/hopper_orientation_5.jpg": ROTATED,
    "exif_orientation/hopper_orientation_7.jpg": ROTATED,
    "exif_orientation/hopper_orientation_2.webp": ROTATED,
    "exif_orientation/hopper_orientation_4.webp": ROTATED,
    "exif_orientation/hopper_orientation_6.webp": ROTATED,
    "exif_orientation/hopper_orientation_8.webp": ROTATED,
    "exif_orientation/vips_rotation_2.jpg": ROTATED,
    "exif_orientation/vips_rotation_4.jpg": ROTATED,
    "exif_orientation/vips_rotation_6.jpg": ROTATED,
    "exif_orientation/vips_rotation_8.jpg": ROTATED,
    "exif_orientation/xmp_tags_orientation_exiftool.png": Expected(
        RejectReason.TOO_SMALL, (Warn.ROTATED, Warn.TRANSPARENCY_FLATTENED), SMALL.why
    ),
    "animated/animated_gif_named.jpg": Expected(
        None, (Warn.WRONG_EXTENSION, Warn.FIRST_FRAME_ONLY)
    ),
    "animated/anim.webp": Expected(None, (Warn.TRANSPARENCY_FLATTENED, Warn.FIRST_FRAME_ONLY)),
    "animated/multipage.tiff": Expected(
        RejectReason.TOO_SMALL, (Warn.FIRST_FRAME_ONLY,), SMALL.why
    ),
    "formats/hopper.bmp": PLAIN,
    "formats/hopper.tif": PLAIN,
    "formats/hopper.Lab.tif": Expected(None, (Warn.COLOUR_CONVERTED,)),
    "formats/hopper.ico": UNSUPPORTED,
    "formats/hopper.png": PLAIN,
    "crash_tiff/crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": DAMAGED,
    "crash_tiff/crash-2020-10-test.tif": DAMAGED,
    "crash_tiff/ycbcr_lzw_broken.tif": Expected(
        RejectReason.UNSUPPORTED,
        why="Pillow loads it; OpenCV reads no TIFF of this kind, so nothing can check it",
    ),
    "invalid_exif/image01088.jpg": HARMLESS,
    "invalid_exif/image01551.jpg": HARMLESS,
    "invalid_exif/image01980.jpg": SMALL,
    "icc/icc_missing_chunk.jpeg": SMALL,
    "lfs_pointer/100080576_f52e8ee070_n.jpg": Expected(RejectReason.NOT_AN_IMAGE),
}
