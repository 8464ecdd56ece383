"""Seconds and memory of grouping near-duplicates, on one core.

    python -m bench.near [--photos ZIP]

Three kinds of hashes: even ones, half of them near-duplicates of the others; uneven ones, with most
bits nearly always equal, so that many agree on whole blocks; and, with --photos, those of random
crops of photographs.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np

from pipeline.stages.filter.near_duplicates.hash_groups import BITS, Hashes, group_hashes
from pipeline.stages.filter.phash import perceptual_hash


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


def crops(count: int, random: np.random.Generator, photos: Path) -> Hashes:
    with zipfile.ZipFile(photos) as archive:
        files = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
    grey = [
        image
        for data in files
        if data and (image := cv2.imdecode(np.frombuffer(data, np.uint8), HALF)) is not None
    ]
    hashes = np.zeros(count, np.uint64)
    for number in range(count):
        image = grey[number % len(grey)]
        side = int(random.integers(min(image.shape) // 2, min(image.shape) + 1))
        top, left = (int(random.integers(0, length - side + 1)) for length in image.shape)
        crop = image[top : top + side, left : left + side].astype(np.uint8)
        hashes[number] = perceptual_hash(crop)
    return hashes


HALF = cv2.IMREAD_REDUCED_GRAYSCALE_2
KINDS = {"even": even, "uneven": uneven}


def run(kind: str, count: int, bits: int, photos: Path | None) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    random = np.random.default_rng(0)
    hashes = crops(count, random, photos) if photos else KINDS[kind](count, random)
    start = time.perf_counter()
    groups = len(np.unique(group_hashes(hashes, bits)))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{kind:>7}, {bits} bits: {seconds:6.1f} s, {peak:.0f} MiB, {groups} groups of {count}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--photos", type=Path, help="a zip of JPEGs")
    parser.add_argument("--run", nargs=2, metavar=("KIND", "BITS"), help="internal")
    options = parser.parse_args()
    if options.run:
        photos = options.photos if options.run[0] == "crops" else None
        run(options.run[0], options.hashes, int(options.run[1]), photos)
        return
    print(f"one core, Python {platform.python_version()}, numpy {np.__version__}", flush=True)
    command = [sys.executable, "-m", "bench.near", "--hashes", str(options.hashes)]
    if options.photos:
        command += ["--photos", str(options.photos)]
    for kind in [*KINDS, *(["crops"] if options.photos else [])]:
        # At six bits the uneven hashes form one large group: that takes 15 minutes.
        for bits in ("4",) if kind == "uneven" else ("4", "6"):
            subprocess.run([*command, "--run", kind, bits], check=True)


if __name__ == "__main__":
    main()
