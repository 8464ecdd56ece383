"""Which columns of a Parquet file have images."""

import re

from pipeline.stages.acquire.layouts.parquet_file import ParquetFile
from pipeline.stages.acquire.layouts.table_columns import FILES, plain

# The first bytes of JPEG, PNG, GIF, BMP, TIFF, WebP, HEIF and AVIF, JPEG XL and 2000, PNM, ICO.
IMAGE_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|BM....\0\0\0\0|II\*\0|MM\0\*|RIFF....WEBP|....ftyp|\xff\x0a|"
    rb"\0\0\0\x0c(JXL|jP) |P[1-6]\s|\0\0\1\0",
    re.DOTALL,
)


def find_image_columns(table: ParquetFile) -> list[str]:
    """The columns of images: by their content, or else by their names."""
    blobs = sorted(table.blob_columns)
    images = [name for name in blobs if any(map(IMAGE_START.match, table.starts(name)))]
    return images or [name for name in blobs if table.is_file(name) or plain(name) in FILES]
