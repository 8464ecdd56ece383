"""Small pictures of images, kept or rejected, for pages that people look at."""

import io
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from pipeline.images import decoding, header, memo, sandbox
from pipeline.images.decoding import Pixels
from pipeline.images.header import RejectReason, Unreadable
from pipeline.images.mapping import Isolation, map_images

SIDE = 144  # pixels, of the longer side
QUALITY = 70
MEGAPIXELS = 50  # past which nothing is drawn
SECONDS = 20  # for one picture; what the filter rejected may have been made to harm
MEMORY = 2_000_000_000
SCHEMA = pa.schema({"id": pa.string(), "picture": pa.binary()})


def of(directory: Path, ids: Collection[str]) -> dict[str, bytes]:
    """JPEGs of the images of `directory` with these ids; without those that show nothing."""
    values = {"side": SIDE, "quality": QUALITY}
    key = memo.fingerprint(values, [__name__], ["opencv-python-headless", "pillow"])
    drawn = map_images(
        draw_batch,
        directory,
        schema=SCHEMA,
        memo=memo.Memo("thumbnails", key),
        title="thumbnails",
        only=ids,
        isolation=Isolation(_nothing, MEMORY),
    )
    return {
        row["id"]: row["picture"]
        for _, results in drawn
        for row in results.to_pylist()
        if row["picture"]
    }


def draw_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A JPEG, or null, for each row of a raw or clean shard."""
    rows = []
    for key, data in zip(batch.column("id"), batch.column("bytes"), strict=True):
        with sandbox.deadline(SECONDS):
            rows.append({"id": key.as_py(), "picture": draw(data.as_py())})
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _nothing(key: str) -> dict[str, str | None]:
    return {"id": key, "picture": None}


def draw(data: bytes) -> bytes | None:
    """What can be seen of an image, as a JPEG, or None."""
    pixels = _seen(data)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return bytes(cv2.imencode(".jpg", small[:, :, ::-1], options)[1])


def _seen(data: bytes) -> Pixels | None:
    try:
        _, pixels = decoding.load(data, MEGAPIXELS, 2 * SIDE)
    except Unreadable as error:
        return _forgiving(data) if error.reason is RejectReason.DAMAGED else None
    return pixels


def _forgiving(data: bytes) -> Pixels | None:
    """As much of a damaged image as Pillow makes of it; for people alone."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        # The header again: only a size that is known to be sane is decoded.
        found = header.read_header(data)
        if found.width * found.height <= MEGAPIXELS * 1e6:
            with Image.open(io.BytesIO(data), formats=header.PILLOW_FORMATS) as image:
                return np.array(image.convert("RGB"))
    except (Unreadable, *header.PILLOW_ERRORS):
        pass
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return None
