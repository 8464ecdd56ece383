"""Memory and CPU time of a process and all its descendants, sampled while they run (Linux)."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL = 0.05  # seconds between samples
PRIVATE = ("RssAnon:", "RssShmem:")  # of /proc/PID/status, in KiB; the rest are mapped files


@dataclass
class Usage:
    """The largest sums of memory over the processes of one moment, in MiB, and CPU seconds."""

    rss_mib: float = 0.0
    private_mib: float = 0.0
    cpu_of: dict[int, float] = field(default_factory=dict)
    """User and system seconds by process, as last seen."""

    @property
    def cpu_seconds(self) -> float:
        return sum(self.cpu_of.values())

    def sample(self, root: psutil.Process) -> None:
        rss = private = 0
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                rss += process.memory_info().rss
                private += _private_bytes(process.pid)
                times = process.cpu_times()
                self.cpu_of[process.pid] = times.user + times.system
        self.rss_mib = max(self.rss_mib, rss / 2**20)
        self.private_mib = max(self.private_mib, private / 2**20)


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(PRIVATE))


def watch(process: psutil.Popen, limit: float) -> Usage:
    """Sample a process until it ends.

    Raises:
        TimeoutError: it ran for `limit` seconds; it and its descendants are killed.
    """
    usage, end = Usage(), time.monotonic() + limit
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            usage.sample(process)
        if time.monotonic() > end:
            for descendant in [*process.children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    descendant.kill()
            process.wait()
            raise TimeoutError(f"still running after {limit:g} s")
        time.sleep(INTERVAL)
    return usage
