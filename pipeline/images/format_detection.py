"""Tell the format of a file by its first bytes, and compare it with the name."""

import re
from pathlib import PurePosixPath

EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
}
# First bytes of the formats that are read.
SIGNATURES = {
    re.compile(rb"\xff\xd8"): "JPEG",
    re.compile(rb"\x89PNG\r\n\x1a\n"): "PNG",
    re.compile(rb"GIF8[79]a"): "GIF",
    re.compile(rb"RIFF....WEBP", re.DOTALL): "WEBP",
    re.compile(rb"(II|MM)(\*\0|\0\*|\+\0|\0\+)"): "TIFF",
    # With reserved zeros, or the length of a known header.
    re.compile(
        rb"BM(....\0\0\0\0|.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0)", re.DOTALL
    ): "BMP",
}
# First bytes of other formats: HEIC and AVIF, JPEG XL, JPEG 2000, JPEG XR, ICO and CUR, Photoshop,
# netpbm, Radiance, OpenEXR, Sun raster, SGI, DDS, ICNS, QOI, GIMP; raw photographs of Canon, Fuji,
# Minolta, Olympus, Panasonic and Sigma (those of others are TIFFs).
UNSUPPORTED = re.compile(
    rb"....ftyp(heic|heix|hevc|mif1|msf1|avif|avis|crx )|\xff\x0a|....JXL |....jP  "
    rb"|\xff\x4f\xff\x51|II\xbc\x01|\0\0[\1\2]\0|8BPS|P[1-7fF]\s|#\?RADIANCE|\x76\x2f\x31\x01|\x59\xa6\x6a\x95"
    rb"|\x01\xda[\0\1][\1\2]|DDS |icns|qoif|gimp xcf |II\x1a\0\0\0HEAPCCDR|FUJIFILMCCD-RAW|\0MRM"
    rb"|IIR[OS]|MMOR|IIU\0|FOVb",
    re.DOTALL,
)


def detect_format(start: bytes) -> str | None:
    """The format that begins with these bytes, if it is one that is read; damaged or not."""
    return next((form for pattern, form in SIGNATURES.items() if pattern.match(start)), None)


def is_other_image(start: bytes) -> bool:
    """Whether an image of a format that is not read begins with these bytes."""
    return bool(UNSUPPORTED.match(start))


def looks_like_image(start: bytes) -> bool:
    """Whether these are the first bytes of an image of some kind, damaged or not."""
    return detect_format(start) is not None or is_other_image(start)


def has_wrong_extension(name: str, form: str) -> bool:
    """Whether the extension of `name` is not one of the format `form`."""
    return PurePosixPath(name).suffix.lower() not in EXTENSIONS.get(form, set())
