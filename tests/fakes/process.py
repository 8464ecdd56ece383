"""The fake Flickr as a process of its own, for tests that kill their client."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.flickr import API, RECORD

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Running:
    """A fake that another process is."""

    port: int

    def url(self, path: str = "") -> str:
        """The address of a path, which starts with a slash."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def api_url(self) -> str:
        """What a client sets REST_URL to."""
        return self.url(API)

    def record(self) -> dict[str, Any]:
        """`requests` (a list of mappings) and `completed` (counts by path)."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.url(RECORD), timeout=10) as answer:
            said: dict[str, Any] = json.load(answer)
        return said


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """Start `python -m tests.fakes.flickr ARGUMENTS`; it ends with the context."""
    command = [sys.executable, "-m", "tests.fakes.flickr", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Running(int(process.stdout.readline()))
        finally:
            process.terminate()
