"""How Pillow is used on untrusted bytes."""

import struct
from functools import cache

from PIL import Image

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "WEBP",
    "TIFF",
    "AVIF",
)  # for `Image.open`, which detects an MPO
# What Pillow raises on hostile bytes, found by fuzzing each format (UnidentifiedImageError is an
# OSError). Anything else is a bug of ours.
PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, IndexError, RuntimeError, struct.error)


@cache
def configure_pillow() -> None:
    """Lift the limit on pixels, which callers check in the header; repeated calls are free."""
    Image.MAX_IMAGE_PIXELS = None
