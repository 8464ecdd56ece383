"""The benchmarks run. What they measure is for a quiet machine, not for a test."""

import re
import subprocess
import sys

from imports import ROOT


def test_the_benchmark_of_acquire_prints_its_rates_and_ratios() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.acquire", "--images", "40", "--repeats", "1",
         "--latency", "0.001", "--bytes", "1000"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in ("sequential: .* images/s", "threads: .* images/s", "acquire: .* images/s",
                 r"acquire / threads: [\d.]+"):  # fmt: skip
        assert re.search(line, done.stdout), done.stdout
