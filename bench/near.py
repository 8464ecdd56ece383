"""Seconds and memory of grouping near-duplicates, on one core.

    python -m bench.near

Of hashes that are even (half of them near-duplicates of the others), and of hashes as uneven as a
hash should not be: most bits nearly always the same, so that many agree in whole blocks.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np

from pipeline.near import BITS, Hashes, groups


def even(count: int, random: np.random.Generator) -> Hashes:
    hashes = random.integers(0, 2**64, count, dtype=np.uint64)
    half = count // 2
    hashes[half : 2 * half] = hashes[:half]
    for _ in range(3):
        hashes[half:] ^= np.uint64(1) << random.integers(0, BITS, count - half).astype(np.uint64)
    return hashes


def uneven(count: int, random: np.random.Generator) -> Hashes:
    hashes = np.zeros(count, np.uint64)
    for position, share in enumerate(random.beta(0.5, 0.5, BITS)):
        hashes |= (random.random(count) < share).astype(np.uint64) << np.uint64(position)
    return hashes


KINDS = {"even": even, "uneven": uneven}


def run(kind: str, count: int, bits: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    hashes = KINDS[kind](count, np.random.default_rng(0))
    start = time.perf_counter()
    found = len(np.unique(groups(hashes, bits)))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{kind:>7}, {bits} bits: {seconds:6.1f} s, {peak:.0f} MiB, {found} groups of {count}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--run", nargs=2, metavar=("KIND", "BITS"), help="internal")
    chosen = parser.parse_args()
    if chosen.run:
        run(chosen.run[0], chosen.hashes, int(chosen.run[1]))
        return
    print(f"one core, Python {platform.python_version()}, numpy {np.__version__}", flush=True)
    for kind in KINDS:
        for bits in ("4", "6"):
            command = [sys.executable, "-m", "bench.near", "--hashes", str(chosen.hashes)]
            subprocess.run([*command, "--run", kind, bits], check=True)


if __name__ == "__main__":
    main()
