"""A small model and a picture for it: python -m tests.builders.small_service FOLDER.

The image of the service runs this for .ci/check_image, so it needs only what that has.
"""

import sys
from pathlib import Path

from tests.builders.images import noise_png
from tests.builders.models import LINEAR_HEAD, save_untrained


def write(folder: Path) -> None:
    """Write models/ and picture.png into a folder."""
    save_untrained(folder / "models", "mobilenet_v3_small", LINEAR_HEAD, None, 64)
    (folder / "picture.png").write_bytes(noise_png(0))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
