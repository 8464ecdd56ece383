"""The verdict on one image, by its bytes alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from pipeline.images.header import Header, RejectReason, Unreadable, Warn
from pipeline.stages.filter.phash import perceptual_hash

if TYPE_CHECKING:  # which takes longer than all else here
    from pipeline.params import FilterParams
from pipeline.images.decoding import (
    OUT_OF_MEMORY,
    Grey,
    Pixels,
    check_header,
    decode_checked,
    decode_strict,
    decode_upright,
    encode,
    is_small_enough,
    to_grey,
)

HASHED = 64  # pixels of the shorter side that a reduced decoding leaves: twice what the hash needs


@dataclass(frozen=True)
class Judgement:
    """What the filter says about one image, judged by its bytes alone."""

    reason: RejectReason | None
    """Why it is rejected, or None."""
    format: str = ""
    warnings: tuple[Warn, ...] = ()
    width: int = 0
    height: int = 0
    """Of the stored image, in pixels."""
    phash: int = 0
    stored: bytes | None = None
    """The uniform encoding, or None where the original bytes already are one."""


def judge(data: bytes, params: "FilterParams") -> Judgement:
    """Decode `data` once and say whether to keep it, and what to store.

    Raises:
        MemoryError: there is not enough of it, which says nothing of the image.
    """
    try:
        return _judge(data, params)
    except cv2.error as error:
        if error.code == OUT_OF_MEMORY:
            raise MemoryError(str(error)) from error
        return Judgement(RejectReason.DAMAGED)


def _judge(data: bytes, params: "FilterParams") -> Judgement:
    try:
        header = check_header(data, params.max_megapixels)
        as_is = header.plain and is_small_enough(header.height, header.width, params.store_side)
        if as_is and header.format == "JPEG":
            return _judge_as_is(header, data, params)
        pixels = decode_checked(header, data, params.store_side)
    except Unreadable as error:
        return Judgement(error.reason, error.format)
    grey = to_grey(pixels)
    rejected = _look(header, grey, pixels, params.min_side)
    if rejected:
        return Judgement(rejected, header.format, header.warnings)
    return Judgement(
        None,
        header.format,
        header.warnings,
        pixels.shape[1],
        pixels.shape[0],
        perceptual_hash(grey),
        None if as_is else encode(pixels, data, header.format),
    )


def _judge_as_is(header: Header, data: bytes, params: "FilterParams") -> Judgement:
    """A JPEG whose bytes can stay. The strict pass decodes what OpenCV does, with less patience.

    Its entropy decoding, where damage shows and most of the time goes, is whole at any scale.
    """
    grey = decode_strict(header, data, "GRAY", HASHED)
    rejected = _look(header, grey, None, params.min_side)
    if rejected is RejectReason.BLANK:  # in grey, at this scale: a fine pattern is not
        rejected = _look(header, grey, decode_upright(header, data), params.min_side)
    if rejected:
        return Judgement(rejected, header.format)
    phash = perceptual_hash(grey)
    return Judgement(None, header.format, (), header.width, header.height, phash)


def _look(header: Header, grey: Grey, pixels: Pixels | None, min_side: int) -> RejectReason | None:
    if min(header.width, header.height) < min_side:
        return RejectReason.TOO_SMALL
    if grey.min() == grey.max() and (pixels is None or (pixels == pixels[0, 0]).all()):
        return RejectReason.BLANK
    return None
