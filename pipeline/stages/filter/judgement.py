"""Judge one image by its bytes alone."""

from dataclasses import dataclass, replace

import cv2

from pipeline.images.decoding import (
    OUT_OF_MEMORY,
    check_header,
    decode_checked,
    decode_strict,
    decode_upright,
    encode,
    is_small_enough,
    to_grey,
)
from pipeline.images.header import Header, RejectReason, Unreadable, Warn
from pipeline.images.pixels import Grey, Pixels
from pipeline.images.repair import read_or_mend
from pipeline.params import FilterParams
from pipeline.stages.filter.near_duplicates.appearance import NONE, Appearance, describe
from pipeline.stages.filter.phash import perceptual_hash

MIN_HASHED_SIDE = 64  # pixels that a reduced decoding leaves: twice the side that is hashed


@dataclass(frozen=True)
class Judgement:
    """A judgement on one image."""

    reason: RejectReason | None
    """Why it is rejected, or None."""
    format: str = ""
    warnings: tuple[Warn, ...] = ()
    width: int = 0
    height: int = 0
    """Of the stored image, in pixels."""
    phash: int = 0
    appearance: Appearance = NONE
    stored: bytes | None = None
    """The image encoded anew, or None where the original bytes are stored."""


def judge(data: bytes, params: FilterParams) -> Judgement:
    """Decode an image and decide whether to keep it, and which bytes to store.

    Raises:
        MemoryError: memory ran out, which need not be the fault of the image.
    """
    try:
        return _judge_or_mend(data, params)
    except cv2.error as error:
        if error.code == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        return Judgement(RejectReason.DAMAGED)


def _judge_or_mend(data: bytes, params: FilterParams) -> Judgement:
    try:
        result, mended = read_or_mend(data, lambda file: _judge(file, params))
    except Unreadable as error:
        return Judgement(error.reason, error.format)
    if mended.data is data:
        return result
    warnings = (*result.warnings, *mended.warnings)
    stored = None if result.reason else (result.stored or mended.data)
    return replace(result, warnings=warnings, stored=stored)


def _judge(data: bytes, params: FilterParams) -> Judgement:
    """Raises `Unreadable`."""
    header = check_header(data, params.max_megapixels)
    as_is = header.plain and is_small_enough(header.height, header.width, params.store_side)
    if as_is and header.format == "JPEG":
        return _judge_as_is(header, data, params)
    header, pixels = decode_checked(header, data, params.store_side)
    grey = to_grey(pixels)
    reason = _reject_reason(header, grey, pixels, params.min_side)
    if reason:
        return Judgement(reason, header.format, header.warnings)
    return Judgement(
        None,
        header.format,
        header.warnings,
        pixels.shape[1],
        pixels.shape[0],
        perceptual_hash(grey),
        _describe(grey, params),
        None if as_is else encode(pixels, header.lossless),
    )


def _judge_as_is(header: Header, data: bytes, params: FilterParams) -> Judgement:
    """Judge a JPEG whose bytes can be stored as they are, in one strict pass at a reduced scale.

    The pass accepts fewer files than OpenCV. Its entropy decoding, which reveals damage and takes
    most of the time, reads all the data at any scale.
    """
    grey = decode_strict(header, data, "GRAY", MIN_HASHED_SIDE)
    reason = _reject_reason(header, grey, None, params.min_side)
    if reason is RejectReason.BLANK:  # a fine pattern is blank only in grey, at this scale
        pixels = decode_upright(header, data)
        reason = _reject_reason(header, grey, pixels, params.min_side)
    if reason:
        return Judgement(reason, header.format)
    return Judgement(
        None,
        header.format,
        (),
        header.width,
        header.height,
        perceptual_hash(grey),
        _describe(grey, params),
    )


def _describe(grey: Grey, params: FilterParams) -> Appearance:
    return describe(grey) if params.near_duplicate_crops else NONE


def _reject_reason(
    header: Header, grey: Grey, pixels: Pixels | None, min_side: int
) -> RejectReason | None:
    if min(header.width, header.height) < min_side:
        return RejectReason.TOO_SMALL
    if grey.min() == grey.max() and (pixels is None or (pixels == pixels[0, 0]).all()):
        return RejectReason.BLANK
    return None
