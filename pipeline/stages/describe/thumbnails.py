"""Thumbnails of accepted and rejected images."""

import io
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile

from pipeline.core import columns
from pipeline.images import decoder_versions, decoding, memo, pillow_settings, sandbox
from pipeline.images.chunk_runs import Isolation
from pipeline.images.header import RejectReason, Unreadable
from pipeline.images.key_index import KeySet
from pipeline.images.mapping import map_images
from pipeline.images.pixels import Pixels

SIDE = 320  # pixels, of the longer side: pages show them small, and large on a click
QUALITY = 60
MAX_MEGAPIXELS = 50  # larger images have no thumbnail
MEMORY = 2_000_000_000  # bytes
SCHEMA = pa.schema({"id": pa.string(), "picture": pa.binary()})


def draw_all(directory: Path, ids: Collection[str]) -> dict[str, bytes]:
    """JPEGs of the images of `directory` with these ids, without those that cannot be drawn."""
    values = {"side": SIDE, "quality": QUALITY, "codecs": decoder_versions.codecs()}
    key = memo.fingerprint(values, [__name__], decoder_versions.LIBRARIES)
    thumbnails = map_images(
        draw_batch,
        directory,
        memo=memo.Memo("thumbnails", key, SCHEMA),
        title="thumbnails",
        only=KeySet(columns.texts(list(ids))),
        isolation=Isolation(_no_picture, MEMORY),
    )
    return {
        row["id"]: row["picture"]
        for _, results in thumbnails
        for row in results.to_pylist()
        if row["picture"]
    }


def draw_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A JPEG, or null, for each row of a raw or clean shard."""
    rows = []
    for key, data in zip(batch.column("id"), batch.column("bytes"), strict=True):
        with sandbox.deadline(sandbox.seconds_for(MAX_MEGAPIXELS)):
            rows.append({"id": key.as_py(), "picture": draw(data.as_py())})
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _no_picture(key: str) -> dict[str, str | None]:
    return {"id": key, "picture": None}


def draw(data: bytes) -> bytes | None:
    """Draw an image, as far as it can be decoded, as a JPEG; None if there is nothing."""
    pixels = _load(data)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return bytes(cv2.imencode(".jpg", small[:, :, ::-1], options)[1])


def _load(data: bytes) -> Pixels | None:
    try:
        _, pixels = decoding.load(data, MAX_MEGAPIXELS, 2 * SIDE)
    except Unreadable as error:
        return _load_damaged(data) if error.reason is RejectReason.DAMAGED else None
    return pixels


def _load_damaged(data: bytes) -> Pixels | None:
    """As much of a damaged image as Pillow can decode."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        decoding.check_header(data, MAX_MEGAPIXELS)
        with Image.open(io.BytesIO(data), formats=pillow_settings.FORMATS) as image:
            return np.array(image.convert("RGB"))
    except (Unreadable, *pillow_settings.PILLOW_ERRORS):
        pass
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return None
