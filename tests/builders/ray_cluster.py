"""A Ray cluster of processes on 127.0.0.1: a head without cores for work, and workers."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

RAY = Path(sys.executable).with_name("ray")
STORE_BYTES = 80 * 2**20  # the least that Ray takes; nothing is stored there
DAEMON = "raylet"
HOST = "127.0.0.1"
STARTS = 3  # tries: Ray waits 30 seconds for its own processes, too little on a busy machine
TIMED_OUT = "timed out during startup"


class RayCluster:
    """The cluster, from the start of the block to its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """
        Args:
            folder: For Ray's logs and sockets; its path must be short.
            environment: Of all its processes.
        """
        self.folder, self.address = folder, ""
        self._environment = {**os.environ, "RAY_worker_niceness": "0", **environment}
        self.workers: list[psutil.Process] = []

    def __enter__(self) -> Self:
        head = ("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self.folder}")
        text = self._ray("start", *head, "--num-cpus=0")
        (self.address,) = re.findall(r"address='([\d.:]+)'", text)[:1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes():
            process.kill()

    def add_worker(self) -> psutil.Process:
        """Add a machine with one core; return its daemon."""
        before = {process.pid for process in self._daemons()}
        self._ray("start", f"--address={self.address}", "--num-cpus=1")
        (daemon,) = [process for process in self._daemons() if process.pid not in before]
        self.workers.append(daemon)
        return daemon

    def _ray(self, *arguments: str) -> str:
        for _ in range(STARTS):
            before = {process.pid for process in self._processes()}
            ended = self._start(arguments)
            if TIMED_OUT not in ended.stdout:
                break
            for process in self._processes():
                if process.pid not in before:
                    process.kill()
        assert not ended.returncode, ended.stdout
        return ended.stdout

    def _start(self, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        options = ("--disable-usage-stats", f"--object-store-memory={STORE_BYTES}")
        return subprocess.run(
            [RAY, *arguments, f"--node-ip-address={HOST}", *options],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _daemons(self) -> list[psutil.Process]:
        return [process for process in self._processes() if process.name() == DAEMON]

    def _processes(self) -> list[psutil.Process]:
        """Those of this cluster: they name its folder."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(self.folder) in " ".join(process.info["cmdline"] or [])
        ]
