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
        (
            "train --epochs 1 --seeds 1 --views 1 -S images.size=32",
            ["work: .* s", r"  test accuracy: [\d.]+", r"tutorial / work: [\d.]+ times",
             r"tutorial / work, 1 view: [\d.]+", r"tutorial's process / stages' processes: [\d.]+"],
        ),
        (
            "train --floor --repeats 1 --views 1 -S images.size=32",
            ["stage: .* features/s", "floor: .* features/s", r"stage / floor: [\d.]+ times"],
        ),
        (
            "train --further --repeats 1 --epochs 2 --views 1 -S images.size=32",
            [r"a further training of 2 epochs: [\d.]+ s", r"a further epoch: [\d.]+ ms"],
        ),
        (
            "train --backbones cifar_cnn --repeats 1",
            ["cifar_cnn, 32 pixels: 309 features", "stage: .* features/s"],
        ),
        (
            "train --trainable head,features.18 --epochs 2 --views 0 -S images.size=32",
            [r" head +[\d.]+ +[\d.]+ +0\.0", r" features\.18 +[\d.]+ +[\d.]+ +0\.0"],
        ),
        ("near --hashes 2000", [r"even, 4 bits: .* MiB, 1000 groups", r"uneven, 4 bits: .* s"]),
    ],
    ids=[
        "acquire", "filter", "filter, 1 % added", "train", "train, floor", "train, further",
        "train, backbones", "train, trainable", "near",
    ],
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
