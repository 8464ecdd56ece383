"""A Ray cluster of processes on 127.0.0.1: a head without cores for work, and workers."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.builders.postgres import free_port

RAY = Path(sys.executable).with_name("ray")
STORE_BYTES = 80 * 2**20  # the least that Ray takes; nothing is stored there
DAEMON = "raylet"
HEAD = "gcs_server"
HOST = "127.0.0.1"
# Stages run at the priority of the tests; five failed checks, by default each three seconds, tell
# that a machine is lost; and gRPC's fork handlers often crash the process of a ray:// client at its
# start, when the machine is busy, which Ray notices after 40 seconds.
SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_health_check_period_ms": "500",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}
STARTS = 3  # tries: Ray waits 30 seconds for its own processes, too little on a busy machine
EXIT_SECONDS = 10
TIMED_OUT = "timed out during startup"


def kill_machine(daemon: psutil.Process) -> None:
    """End all processes of a machine, parents first: none can report the end of another."""
    with suppress(psutil.NoSuchProcess):  # it was killed before
        for process in (daemon, *daemon.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()


class RayCluster:
    """The cluster, from the start of the block to its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """
        Args:
            folder: For Ray's logs and sockets; its path must be short.
            environment: Of all its processes.
        """
        self.folder, self.address, self.client_port = folder, "", free_port()
        self._environment = {**os.environ, **SETTINGS, **environment}
        self.workers: list[psutil.Process] = []

    def __enter__(self) -> Self:
        head = ("--head", "--port=0", "--include-dashboard=false", f"--temp-dir={self.folder}")
        client = f"--ray-client-server-port={self.client_port}"
        text = self._ray("start", *head, client, "--num-cpus=0", f"--node-ip-address={HOST}")
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

    def add_worker(self, **environment: str) -> psutil.Process:
        """Add a machine with one core and an address of its own; return its daemon.

        A driver here uses the head's daemon, which has this machine's address: without its daemon
        it would end.

        Args:
            environment: Of its processes, besides that of all.
        """
        before = {process.pid for process in self._daemons()}
        host = f"--node-ip-address=127.0.0.{len(self.workers) + 2}"
        self._ray("start", f"--address={self.address}", "--num-cpus=1", host, **environment)
        (daemon,) = [process for process in self._daemons() if process.pid not in before]
        self.workers.append(daemon)
        return daemon

    def kill_workers(self) -> None:
        """End all machines but the head."""
        for daemon in self.workers:
            kill_machine(daemon)

    def kill_head(self) -> None:
        """End the process without which there is no cluster."""
        for process in self._processes():
            if process.name() == HEAD:
                process.kill()
                process.wait(EXIT_SECONDS)  # until then it still accepts connections

    def _ray(self, *arguments: str, **environment: str) -> str:
        for _ in range(STARTS):
            before = {process.pid for process in self._processes()}
            ended = self._start(arguments, environment)
            if TIMED_OUT not in ended.stdout:
                break
            for process in self._processes():
                if process.pid not in before:
                    process.kill()
        assert not ended.returncode, ended.stdout
        return ended.stdout

    def _start(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        options = ("--disable-usage-stats", f"--object-store-memory={STORE_BYTES}")
        return subprocess.run(
            [RAY, *arguments, *options],
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _daemons(self) -> list[psutil.Process]:
        return [process for process in self._processes() if process.name() == DAEMON]

    def _processes(self) -> list[psutil.Process]:
        """Those of this cluster: they name its folder or, for clients of ray://, its address."""
        names = [name for name in (str(self.folder), self.address) if name]
        commands = {
            process: " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cmdline"])
        }
        return [
            process
            for process, command in commands.items()
            if any(name in command for name in names)
        ]
