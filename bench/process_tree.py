"""Memory and CPU time of a process and all its descendants, sampled while they run (Linux)."""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL = 0.05  # seconds between samples


@dataclass
class Usage:
    """The largest sums of memory over the processes of one moment, in MiB, and CPU seconds.

    Pages that processes share, such as those of libraries, count once for each.
    """

    rss_mib: float = 0.0
    private_mib: float = 0.0
    process_mib: float = 0.0
    """The largest resident memory of one process, with mapped files."""
    cpu_of: dict[int, float] = field(default_factory=dict)
    """User and system seconds by process, as last seen."""

    @property
    def cpu_seconds(self) -> float:
        return sum(self.cpu_of.values())

    def sample(self, root: psutil.Process) -> None:
        rss = private = 0
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                memory = _memory(process.pid)
                rss += memory["VmRSS"]
                private += memory["RssAnon"] + memory["RssShmem"]
                self.process_mib = max(self.process_mib, memory["VmHWM"] / 1024)
                times = process.cpu_times()
                self.cpu_of[process.pid] = times.user + times.system
        self.rss_mib = max(self.rss_mib, rss / 1024)
        self.private_mib = max(self.private_mib, private / 1024)


def _memory(pid: int) -> Counter[str]:
    """The lines about memory of /proc/PID/status, in KiB; empty for a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(("Vm", "Rss")))
    return Counter({name.rstrip(":"): int(size) for name, size, *_ in fields})


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
