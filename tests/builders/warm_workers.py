"""Worker processes that start with what decodes images already imported.

loky starts each worker with a new Python, which imports numpy, OpenCV and our code: most of the
time of a test that decodes a few small images. Tests of the processes themselves (how they end,
what they import, their memory) start the real Python.
"""

import atexit
import sys
from functools import cache

import pytest
from joblib.externals.loky.backend import popen_loky_posix as popen_of_joblib
from loky.backend import popen_loky_posix

from tests.builders.warm_python import Server

MODULES = (
    "pipeline.images.worker",
    "pipeline.inference.decoder_pool",
    "pipeline.stages.filter.judge_all",
)


@cache
def _server() -> Server:
    server = Server(MODULES)
    atexit.register(server.end)
    return server


class _Program:
    """The module `sys`, with another Python."""

    def __init__(self, executable: str) -> None:
        self.executable = executable

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)


def use(patch: pytest.MonkeyPatch) -> None:
    """Let loky start workers as forks of a process that has the packages of `MODULES`."""
    for module in (popen_loky_posix, popen_of_joblib):
        patch.setattr(module, "sys", _Program(str(_server().client)))
