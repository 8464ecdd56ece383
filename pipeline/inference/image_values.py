"""The images in what people pass to `predict`: tables, lists, arrays, files, bytes."""

import base64
import string
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np

from pipeline.core.errors import OF_MACHINE, PipelineError
from pipeline.images.format_detection import looks_like_image
from pipeline.images.header import RejectReason

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
NOT_BASE64 = "not_base64"  # the problem of a text that is not base64
PATH_AS_TEXT = "path_as_text"  # of one that looks like the name of a file
GONE = "gone"  # for a path that does not exist
UNREADABLE = "unreadable"  # of a folder, or a file without read permission
STANDARD_ALPHABET = str.maketrans("-_", "+/", string.whitespace)  # from that for URLs, with blanks
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"]
)
ImageValue = bytes | str
"""The bytes of an image, or the reason why there are none."""
# From the channels of grey, RGB and RGBA to those of OpenCV.
ORDERS = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}


def read_images(data: Any) -> list[ImageValue]:
    """The images in the argument of `predict`.

    Args:
        data: One image or several: bytes, a `pathlib.Path`, an array of uint8, (height, width) in
            grey, (height, width, 3 or 4) in RGB or RGBA, or (batch, height, width, channels),
            base64 or a data URL; a list or one-dimensional array of these; a table with a column
            `image`, or one without a name.

    Raises:
        PipelineError: it is nothing of this kind.
    """
    return [_image(value) for value in _values(data)]


def _values(data: Any) -> Iterable[Any]:
    if isinstance(data, str | bytes | bytearray | memoryview | PurePath):
        return [data]
    if hasattr(data, "columns"):
        return _column(data)
    if isinstance(data, np.ndarray):
        return _elements(data)
    if isinstance(data, Mapping):
        if COLUMN in data:
            return _values(data[COLUMN])
    elif isinstance(data, Iterable):
        return list(data)
    raise PipelineError(
        f"predict takes images (bytes, base64, arrays, pathlib.Path), a list of them, or a table "
        f"with a column {COLUMN!r}, and not {type(data).__name__}"
    )


def _column(table: "pd.DataFrame") -> Iterable[Any]:
    if COLUMN in table.columns:
        return list(table[COLUMN])
    if len(table.columns) == 1 and not isinstance(table.columns[0], str):  # of a list
        return list(table.iloc[:, 0])
    names = ", ".join(str(name)[:40] for name in table.columns[:5])
    raise PipelineError(f"the table has no column {COLUMN!r}, but: {names}")


def _elements(array: "np.ndarray[Any, Any]") -> Iterable[Any]:
    """The images of an array: itself, those of a batch, or its elements."""
    if array.dtype.kind in "OSU":
        return list(array.ravel())
    return list(array) if array.ndim == 4 else [array]


def _image(value: object) -> ImageValue:
    if isinstance(value, str):
        return _decode_text(value)
    if isinstance(value, PurePath):
        return _read(Path(value))
    if isinstance(value, np.ndarray):
        return _encode(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        return RejectReason.NOT_AN_IMAGE.value
    data = bytes(value)
    if looks_like_image(data):
        return data
    # MLflow passes the text as bytes for some forms of JSON.
    decoded = _decode_text(data.decode("latin-1"))
    return decoded if isinstance(decoded, bytes) or data.isascii() else data


def _read(path: Path) -> ImageValue:
    """A file. Strings are never paths: a client could read the server's files."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a zero byte
        return GONE
    except OSError as error:
        if error.errno in OF_MACHINE:
            raise
        return UNREADABLE


def _encode(pixels: "np.ndarray[Any, Any]") -> bytes:
    """Pixels as a PNG, which loses nothing."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    is_image = pixels.dtype == np.uint8 and pixels.ndim in {2, 3} and channels in ORDERS
    are_channels_first = pixels.ndim == 3 and pixels.shape[0] in ORDERS
    if not (is_image and pixels.size) or are_channels_first:
        raise PipelineError(
            "an image as an array is uint8, (height, width) in grey, or (height, width, 3 or 4) in "
            f"RGB or RGBA, and not {pixels.dtype}, {pixels.shape}"
        )
    ordered = pixels.reshape(*pixels.shape[:2], channels)[:, :, ORDERS[channels]]
    return cv2.imencode(".png", np.ascontiguousarray(ordered))[1].tobytes()


def _decode_text(text: str) -> ImageValue:
    """Decode base64 of either alphabet, with or without line breaks and padding; or a data URL."""
    text = text.strip()
    if text[:5].lower() == "data:":  # RFC 2397
        properties, _, text = text.partition(",")
        content = unquote_to_bytes(text)
        if not properties.lower().endswith(";base64"):
            return content
        text = content.decode("latin-1")
    packed = text.translate(STANDARD_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:  # binascii.Error is one; so is that of a character outside ASCII
        is_name = len(text) < 4096 and PurePath(text).suffix.lower() in SUFFIXES
        return PATH_AS_TEXT if is_name and "://" not in text else NOT_BASE64
