"""The libraries and codecs that decide pixels, for the keys of memos."""

import cv2
from PIL import features

LIBRARIES = (
    "opencv-python-headless",
    "pillow",
    "pillow-heif",
    "simplejpeg",
    "numpy",
)
CODECS = (
    "libjpeg_turbo",
    "zlib",
    "libtiff",
    "webp",
    "avif",
    "littlecms2",
)  # that Pillow may be built with


def codecs() -> dict[str, str | None]:
    """The codecs behind the decoders, which may change under the same version of a library."""
    versions = {name: features.version(name) for name in CODECS}
    return versions | {"opencv": cv2.getBuildInformation()}
