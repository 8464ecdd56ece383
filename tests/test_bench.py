"""The benchmarks run. What they measure is for a quiet machine, not for a test."""

import re
import subprocess
import sys

import pytest
from imports import ROOT


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (
            "acquire --images 40 --repeats 1 --latency 0.001 --bytes 1000",
            ["sequential: .* images/s", "threads: .* images/s", "acquire: .* images/s",
             r"acquire / threads: [\d.]+"],
        ),
        (
            "filter --images 100 --repeats 1",
            ["imread: .* images/s", "floor: .* images/s", "filter: .* images/s",
             r"filter / floor: [\d.]+", r"filter / imread: [\d.]+"],
        ),
        ("filter --added --images 200", [r"2 of 202 images new: .*% of the per-image work"]),
        ("near --hashes 2000", [r"even, 4 bits: .* MiB, 1000 groups", r"uneven, 4 bits: .* s"]),
    ],
    ids=["acquire", "filter", "filter, 1 % added", "near"],
)  # fmt: skip
def test_a_benchmark_prints_its_figures(arguments: str, printed: list[str]) -> None:
    name, *options = arguments.split()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *options],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in printed:
        assert re.search(line, done.stdout), done.stdout
