import pytest

from pipeline.images.format_detection import EXTENSIONS, has_wrong_extension


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
        ("b.jpg", "unheard", True),
    ],
)
def test_an_extension_is_compared_with_the_content(name: str, form: str, wrong: bool) -> None:
    assert has_wrong_extension(name, form) is wrong


@pytest.mark.parametrize("form", sorted(EXTENSIONS))
def test_an_extension_of_the_format_is_right(form: str) -> None:
    for extension in EXTENSIONS[form]:
        assert not has_wrong_extension(f"cat/1{extension}", form)
        assert not has_wrong_extension(f"cat/1.old{extension.upper()}", form)
