import pytest

from pipeline.images.format_detection import (
    EXTENSIONS,
    LATE,
    describe_unread,
    detect_format,
    has_wrong_extension,
    is_video,
    looks_like_image,
    name_unread,
    starts_late,
)


@pytest.mark.parametrize(
    ("name", "form", "wrong"),
    [
        ("a/b.jpg", "JPEG", False),
        ("a/b.JPEG", "JPEG", False),
        ("a/b.jpe", "JPEG", False),
        ("a/b.jfif", "JPEG", False),
        ("a/b.jpg", "MPO", False),
        ("b.tif", "TIFF", False),
        ("a/b.png", "JPEG", True),
        ("a.png/b", "PNG", True),
        ("b", "JPEG", True),
        (".jpg", "JPEG", True),
        ("b.jpg", "WEBP", True),
        ("b.mov", "video", False),
    ],
)
def test_an_extension_is_compared_with_the_content(name: str, form: str, wrong: bool) -> None:
    assert has_wrong_extension(name, form) is wrong


@pytest.mark.parametrize("form", sorted(EXTENSIONS))
def test_an_extension_of_the_format_is_right(form: str) -> None:
    for extension in EXTENSIONS[form]:
        assert not has_wrong_extension(f"cat/1{extension}", form)
        assert not has_wrong_extension(f"cat/1.old{extension.upper()}", form)


@pytest.mark.parametrize(
    ("brands", "form"),
    [
        (b"heic\0\0\0\0mif1heic", "HEIF"),
        (b"heix\0\0\0\0mif1", "HEIF"),
        (b"mif1\0\0\0\0mif1heic", "HEIF"),
        (b"hevc\0\0\0\0msf1", "HEIF"),
        (b"avif\0\0\0\0mif1", "AVIF"),
        (b"avis\0\0\0\0msf1", "AVIF"),
        (b"mif1\0\0\0\0mif1avif", "AVIF"),
        (b"crx \0\0\0\1", None),  # a raw photograph of Canon
        (b"qt  \0\0\0\0", None),
        (b"isom\0\0\2\0", None),
    ],
)
def test_the_brands_tell_heic_from_avif(brands: bytes, form: str | None) -> None:
    assert detect_format(b"\0\0\0\x18ftyp" + brands) == form


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video"),  # of a Live Photo
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\0\0\0\x18ftypcrx ", "raw"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"text", None),
        (b"1a2b\r\n\xff\xd8\xff\xe0", LATE),  # the length of a chunk of HTTP
        (b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n", LATE),
        (b"x" * 1025 + b"\xff\xd8\xff\xe0", None),
        (b"%PDF-1.4\nstream\n\xff\xd8\xff\xe0", None),
        (b"PK\3\4\0\0a.jpg\xff\xd8\xff\xe0", None),
    ],
)
def test_what_is_not_read_has_a_name(start: bytes, name: str | None) -> None:
    assert name_unread(start) == name
    assert is_video(start) == (name == "video")


@pytest.mark.parametrize(
    ("form", "number", "beginning"),
    [
        ("JPEG XL", 12, "12 JPEG XL files are not read: convert them, such as by `djxl"),
        ("raw", 1, "1 raw file is not read: export it from your photo program"),
        ("TIFF", 2, "2 TIFF files are of a kind that is not read: save as JPEG or PNG"),
        ("video", 3, "3 video files are not read: save the frames"),
        (LATE, 1, "1 file begins with text, such as an HTTP header, and has an image behind it:"),
        (LATE, 2, "2 files begin with text, such as an HTTP header, and have an image behind it:"),
    ],
)
def test_a_sentence_names_the_format_and_the_way_out(
    form: str, number: int, beginning: str
) -> None:
    assert describe_unread(form, number).startswith(beginning)


@pytest.mark.parametrize("image", [b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0"])
@pytest.mark.parametrize(
    ("start", "is_harmless"),
    [
        (b"\n", True),
        (b"\r\n\r\n", True),
        (b"\xef\xbb\xbf", True),
        (b"\xef\xbb\xbf\n", True),
        (b"\xff\xfe", True),
        (b" " * 64, True),
        (b" " * 65, False),
        (b"\0", False),
        (b"a\r\n", False),
        (b"", False),
    ],
)
def test_an_image_may_follow_white_space_and_byte_order_marks_alone(
    start: bytes, is_harmless: bool, image: bytes
) -> None:
    assert starts_late(start + image) == (len(start) if is_harmless else 0)
    assert starts_late(start + b"text") == 0
    assert looks_like_image(start + image) == (is_harmless or not start)
