"""Conversion to sRGB of pixels whose file carries another colour profile."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:  # few images need it
    from PIL.ImageCms import ImageCmsTransform

MAX_PROFILE_BYTES = 4 * 2**20  # those of presses have 3 MiB
MAX_CACHED = 16  # transforms per process, about a MiB each
# An ICC profile's colour space and classes, by mode of the pixels.
SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}
CLASSES = {"scnr", "mntr", "prtr", "spac"}  # not links between devices, not named colours
LAB = "LAB"  # this mode needs no profile
GRID = 17  # levels per channel that are compared
MAX_ROUNDING = 1  # of 255: a profile that changes values no more than that is sRGB


@dataclass(frozen=True)
class Conversion:
    """A conversion to sRGB."""

    profile: bytes
    """An ICC profile."""
    mode: str
    """Of the pixels, as Pillow calls it: L, RGB, CMYK or LAB."""

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Convert (H, W) or (H, W, channels) to RGB: (H, W, 3)."""
        from PIL import ImageCms

        transform = _transform(self.profile, self.mode)
        assert transform is not None
        image = Image.fromarray(pixels, self.mode)
        return np.array(ImageCms.applyTransform(image, transform))  # writable


def find_conversion(profiles: tuple[bytes, ...], mode: str) -> Conversion | None:
    """The conversion by the first profile that can be read and fits pixels of `mode`.

    None if there is none, or if it changes no value by more than rounding does.
    """
    if mode == LAB:
        return Conversion(b"", LAB)
    for profile in profiles:
        if (changes := _changes_values(profile, mode)) is not None:
            return Conversion(profile, mode) if changes else None
    return None


@lru_cache(MAX_CACHED)
def _changes_values(profile: bytes, mode: str) -> bool | None:
    """Whether the profile is another than sRGB; None if it cannot be used."""
    if _transform(profile, mode) is None:
        return None
    if mode == "CMYK":
        return True
    levels = np.linspace(0, 255, GRID).round().astype(np.uint8)
    if mode == "L":
        values = np.arange(256, dtype=np.uint8)[None]
        expected = values[:, :, None]
    else:
        values = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        expected = values
    converted = Conversion(profile, mode).apply(values).astype(np.int16)
    return bool(np.abs(converted - expected).max() > MAX_ROUNDING)


@lru_cache(MAX_CACHED)
def _transform(profile: bytes, mode: str) -> "ImageCmsTransform | None":
    """littlecms's transform to sRGB; None where the profile cannot be read or does not fit.

    Relative colorimetric with black point compensation: it keeps the colours that sRGB has as they
    are, white white and black black. Perceptual tables differ between makers of profiles.
    """
    from PIL import ImageCms

    try:
        if mode == LAB:
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif not profile or len(profile) > MAX_PROFILE_BYTES:
            return None
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            facts = source.profile
            if facts.xcolor_space != SPACES[mode] or facts.device_class not in CLASSES:
                return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
