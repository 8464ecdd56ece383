"""What an image file says about its pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metadata:
    """Raw metadata that change how pixels are shown, each in order of precedence."""

    exif: tuple[bytes, ...] = ()
    """EXIF structures: TIFF headers, maybe after `Exif\\0\\0`."""
    xmp: tuple[bytes, ...] = ()
    """XMP packets."""
    profiles: tuple[bytes, ...] = ()
    """ICC profiles."""
