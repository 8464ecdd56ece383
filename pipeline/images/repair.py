"""Repair files whose picture is whole although their decoder, or their first bytes, refuse them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import simplejpeg

from pipeline.images.format_detection import starts_late
from pipeline.images.formats import gif, jpeg_repair, png_repair, webp
from pipeline.images.formats.jpeg_repair import MendedJpeg
from pipeline.images.header import JPEGS, RejectReason, Unreadable, Warn

UNKNOWN_SUBSAMPLING = "Could not determine subsampling"  # simplejpeg's message; no damage
COMPLETE = {"PNG": png_repair.complete, "GIF": gif.complete, "WEBP": webp.complete}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Mended:
    """A file with the same picture, without the fault."""

    data: bytes
    warnings: tuple[Warn, ...] = ()
    """Of what was wrong."""


def read_or_mend(data: bytes, read: Callable[[bytes], Result]) -> tuple[Result, Mended]:
    """Read a file with `read`, which raises `Unreadable`, after a repair if need be.

    Returns:
        What `read` returns, and the bytes that it was given, with warnings of repairs alone.

    Raises:
        Unreadable: no repair helps.
    """
    start = starts_late(data)
    file = Mended(data[start:], (Warn.EXTRANEOUS_BYTES,)) if start else Mended(data)
    try:
        return read(file.data), file
    except Unreadable as error:
        mended = mend(file.data, error)
        if mended is None:
            raise
    warnings = tuple(dict.fromkeys((*file.warnings, *mended.warnings)))
    return read(mended.data), Mended(mended.data, warnings)


def mend(data: bytes, error: Unreadable) -> Mended | None:
    """The file without a harmless fault; None if it has none that could explain `error`."""
    if error.reason is not RejectReason.DAMAGED:
        return None
    if error.format in JPEGS:
        return _mend_jpeg(data)
    complete = COMPLETE.get(error.format)
    whole = complete(data) if complete else None
    return Mended(whole, (Warn.WRONG_END,)) if whole is not None else None


def _mend_jpeg(data: bytes) -> Mended | None:
    repairs = list(jpeg_repair.repairs(data))
    # Of several repairs, take the one that passes: the others cut off data of the picture.
    passing = (repair for repair in repairs if len(repairs) == 1 or _passes(repair))
    repair = next(passing, None)
    if repair is None or (repair.lacked_end and not _passes(repair)):
        return None
    conditions = {
        Warn.EXTRANEOUS_BYTES: repair.has_lost_bytes,
        Warn.WRONG_END: repair.lacked_end,
    }
    return Mended(repair.data, tuple(warn for warn, applies in conditions.items() if applies))


def _passes(repair: MendedJpeg) -> bool:
    """Whether a strict decoder reads it, or, if it has an end of its own, a lenient one may."""
    try:
        simplejpeg.decode_jpeg(repair.data, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        return UNKNOWN_SUBSAMPLING in str(error) and not repair.lacked_end
    return True
