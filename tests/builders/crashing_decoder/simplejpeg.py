"""simplejpeg with a bug, for processes with this folder in PYTHONPATH: it crashes on some images.

It takes the place of the real one, which it loads.
"""

import importlib.util
import os
import signal
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

COMMENT = b"crash"  # of such an image


def _load_real() -> Any:
    folder = str(Path(__file__).parent)
    spec = PathFinder.find_spec("simplejpeg", [path for path in sys.path if path != folder])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["simplejpeg"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add_crash(jpeg: bytes) -> bytes:
    """The same image with the comment."""
    length = (len(COMMENT) + 2).to_bytes(2, "big")
    return jpeg[:2] + b"\xff\xfe" + length + COMMENT + jpeg[2:]


if __name__ == "simplejpeg":
    _real = _load_real()
    _decode = _real.decode_jpeg

    def _decode_or_crash(data: bytes, *arguments: Any, **options: Any) -> Any:
        if COMMENT in data[:20]:
            os.kill(os.getpid(), signal.SIGSEGV)
        return _decode(data, *arguments, **options)

    _real.decode_jpeg = _decode_or_crash
