"""Images for `ViewLoader`, in a module that its processes import quickly."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import PipelineError

SIZE = 4
KILLS_ONCE, KILLS, CRASHES, RAISES = 1001, 1002, 1003, 1004


class NumberedImages:
    """Images of their number, uint8 (3, 4, 4); some end the process that renders them."""

    def __init__(self, folder: Path) -> None:
        """In `folder` it remembers that it has ended a process."""
        self._mark = folder / "killed"

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        if index == KILLS or (index == KILLS_ONCE and not self._mark.exists()):
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if index == CRASHES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if index == RAISES:
            raise PipelineError("the stored image has changed")
        return np.full((3, SIZE, SIZE), [[[index % 256]], [[index // 256]], [[7]]], np.uint8)

    def name(self, index: int) -> str:
        return f"image {index}"
