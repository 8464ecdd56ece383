"""The fake Flickr in a separate process, for tests that run stages as processes."""

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
    """A fake in another process."""

    port: int

    def url(self, path: str = "") -> str:
        """The URL of a path, which starts with a slash."""
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def api_url(self) -> str:
        """The REST_URL for clients."""
        return self.url(API)

    def record(self) -> dict[str, Any]:
        """`requests` (a list of mappings) and `completed` (counts by path)."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(self.url(RECORD), timeout=10) as response:
            record: dict[str, Any] = json.load(response)
        return record


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """Run `python -m tests.fakes.flickr ARGUMENTS` while the context lasts."""
    command = [sys.executable, "-m", "tests.fakes.flickr", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Running(int(process.stdout.readline()))
        finally:
            process.terminate()
