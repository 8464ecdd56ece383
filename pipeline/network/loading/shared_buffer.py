"""Memory that worker processes fill and this process reads."""

import mmap
import os
import tempfile
import weakref
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt


class SharedBuffer:
    """uint8 values of a shape, in memory that processes share; zeros at first.

    It pickles as a reference, which the receiving process opens on first use. On Linux the system
    frees the memory with the last process that uses it, however that ends, and it is not a part of
    /dev/shm, which has 64 MB in most containers.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._path = _new_file(self, int(np.prod(shape)))

    @cached_property
    def values(self) -> npt.NDArray[np.uint8]:
        """The memory itself."""
        with self._path.open("r+b", buffering=0) as file:
            return np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8).reshape(self.shape)

    def __getstate__(self) -> dict[str, object]:
        return {"shape": self.shape, "_path": self._path}


def _new_file(owner: SharedBuffer, size: int) -> Path:
    """A file of zeros that lasts as long as `owner`, where other processes of this user open it."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("views")
        path = Path(f"/proc/{os.getpid()}/fd/{number}")
        weakref.finalize(owner, os.close, number)
        os.truncate(number, size)
        return path
    number, name = tempfile.mkstemp()
    os.truncate(number, size)
    os.close(number)
    weakref.finalize(owner, Path(name).unlink, missing_ok=True)
    return Path(name)
