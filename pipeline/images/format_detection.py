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
    "HEIF": {".heic", ".heif", ".hif"},
    "AVIF": {".avif"},
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
    # By the main brand, or one of those that a file of no particular kind is compatible with.
    re.compile(rb"....ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,16}?avi[fs])", re.DOTALL): "AVIF",
    re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|m[is]f1)", re.DOTALL): "HEIF",
}
# First bytes of image formats that are not read, and what people call them. Raw photographs of
# Canon, Fuji, Minolta, Olympus, Panasonic and Sigma; those of other cameras are TIFFs.
OTHER_IMAGES = {
    re.compile(pattern, re.DOTALL): name
    for pattern, name in (
        (rb"\xff\x0a|....JXL ", "JPEG XL"),
        (rb"....jP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"II\xbc\x01", "JPEG XR"),
        (
            rb"....ftypcrx |II\x1a\0\0\0HEAPCCDR|FUJIFILMCCD-RAW|\0MRM|IIR[OS]|MMOR|IIU\0|FOVb",
            "raw",
        ),
        (rb"\0\0[\1\2]\0", "icon"),
        (rb"8BPS", "Photoshop"),
        (rb"gimp xcf ", "GIMP"),
        (rb"P[1-7fF]\s", "netpbm"),
        (rb"#\?RADIANCE", "Radiance HDR"),
        (rb"\x76\x2f\x31\x01", "OpenEXR"),
        (rb"\x59\xa6\x6a\x95", "Sun raster"),
        (rb"\x01\xda[\0\1][\1\2]", "SGI"),
        (rb"DDS ", "DDS"),
        (rb"icns", "ICNS"),
        (rb"qoif", "QOI"),
    )
}
# What a faulty program may write before an image: marks of byte order, and white space.
LEADING_BLANKS = re.compile(rb"(\xef\xbb\xbf|\xff\xfe|\xfe\xff|[ \t\r\n\v\f]){1,64}")
# An image after text, such as a header or a length of HTTP; in a PDF that is no fault.
LATE = "image behind text"
LATE_START = re.compile(
    rb"(?!%PDF)[\t-\r -~\xef\xbb\xbf]{1,1024}?"
    rb"(\xff\xd8\xff[\xdb\xe0-\xef]|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP)",
    re.DOTALL,
)
VIDEO = "video"
VIDEO_START = re.compile(rb"....(ftyp|moov|mdat)|\x1aE\xdf\xa3|RIFF....AVI ", re.DOTALL)
CONVERTERS = {
    "JPEG XL": "convert {them}, such as by `djxl IMAGE.jxl IMAGE.png` or `magick`",
    "JPEG 2000": "convert {them}, such as by `magick IMAGE.jp2 IMAGE.png`",
    "raw": "export {them} from your photo program as JPEG",
}


def detect_format(start: bytes) -> str | None:
    """The format that begins with these bytes, if it is one that is read; damaged or not."""
    return next((form for pattern, form in SIGNATURES.items() if pattern.match(start)), None)


def starts_late(data: bytes) -> int:
    """Where an image begins that follows white space or a mark of byte order; 0 if none does."""
    blanks = LEADING_BLANKS.match(data)
    return blanks.end() if blanks and detect_format(data[blanks.end() :]) else 0


def name_other_image(start: bytes) -> str | None:
    """What people call the format of an image that is not read; None if it is not such an image."""
    return next((name for pattern, name in OTHER_IMAGES.items() if pattern.match(start)), None)


def is_video(start: bytes) -> bool:
    """Whether a film begins with these bytes, such as that of a Live Photo."""
    return bool(VIDEO_START.match(start)) and not looks_like_image(start)


def name_unread(start: bytes) -> str | None:
    """What people call the format of a file that was not read; None if it is unknown."""
    if form := detect_format(start) or name_other_image(start):
        return form
    if is_video(start):
        return VIDEO
    return LATE if LATE_START.match(start) else None


def looks_like_image(start: bytes) -> bool:
    """Whether these are the first bytes of an image of some kind, damaged or not."""
    is_known = detect_format(start) is not None or name_other_image(start) is not None
    return is_known or starts_late(start) > 0


def has_wrong_extension(name: str, form: str) -> bool:
    """Whether the extension of `name` is not one of the format `form`, if that is read."""
    return form in EXTENSIONS and PurePosixPath(name).suffix.lower() not in EXTENSIONS[form]


def describe_unread(form: str, number: int) -> str:
    """A sentence about files that are not read, and what to do about them."""
    files, are, them = ("file", "is", "it") if number == 1 else ("files", "are", "them")
    if form == VIDEO:
        return f"{number} video {files} {are} not read: save the frames that you want as JPEG"
    if form == LATE:
        has, begin = ("has", "begins") if number == 1 else ("have", "begin")
        return (
            f"{number} {files} {begin} with text, such as an HTTP header, and {has} an image "
            f"behind it: download {them} again, or cut the text off"
        )
    problem = "of a kind that is not read" if form in SIGNATURES.values() else "not read"
    advice = CONVERTERS.get(form, "save as JPEG or PNG what you want of {them}").format(them=them)
    return f"{number} {form} {files} {are} {problem}: {advice}"
