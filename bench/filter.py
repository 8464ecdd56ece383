"""Images per second of filter, compared with a bare loop of cv2.imread and with a lower bound.

    python -m bench.filter           # rates
    python -m bench.filter --added   # the cost of 1 % new images

The bound (`floor`) decodes every file once, whole and strictly, on all cores, and keeps nothing.
`filter` is the whole stage: hashing, comparing, writing shards. Photographs come from a zip that
--photos names (JPEGs of 500 pixels, the shorter side 300 to 400), or are drawn. Each is used many
times, with a different comment, so that no two files are equal.

Each figure is from a new process, including the start of its workers but not of Python.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import simplejpeg
from joblib import Parallel, delayed
from PIL import Image

from bench import ratios
from pipeline.core import shards
from pipeline.params import load_params
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter import judge_all

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 256  # files a worker takes at a time, as filter's do


def photographs(archive: Path | None) -> list[bytes]:
    """JPEGs of about 500x375."""
    if archive is None:
        return [_drawn(number) for number in range(50)]
    with zipfile.ZipFile(archive) as photos:
        members = (photos.read(name) for name in photos.namelist() if name.endswith(".jpg"))
        return [data for data in members if _fits(data)]


def _fits(data: bytes) -> bool:
    width, height = Image.open(io.BytesIO(data)).size
    return max(width, height) == 500 and 300 <= min(width, height) <= 400


def _drawn(number: int) -> bytes:
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def copies(originals: list[bytes], count: int, start: int = 0) -> Iterator[bytes]:
    """`count` different files: the originals in turn, each with a number in a comment."""
    for number in range(start, start + count):
        comment = f"{number:012d}".encode()
        original = originals[number % len(originals)]
        yield original[:2] + b"\xff\xfe\x00\x0e" + comment + original[2:]


def prepare(folder: Path, originals: list[bytes], count: int) -> None:
    """`count` files, loose and in raw shards."""
    (folder / "files").mkdir()
    for number, data in enumerate(copies(originals, count)):
        (folder / "files" / f"{number:06d}.jpg").write_bytes(data)
    write_raw(folder / "raw", list(copies(originals, count)))


def write_raw(raw: Path, files: list[bytes]) -> None:
    rows = (RawImage(f"{n}.jpg", "ab"[n % 2], data).row() for n, data in enumerate(files))
    shards.write(raw, shards.RAW, rows)


def imread(folder: Path) -> None:
    """Decode every file with cv2.imread, as tutorials do."""
    for path in sorted((folder / "files").iterdir()):
        assert cv2.imread(str(path)) is not None


def _strict(paths: list[Path]) -> None:
    for path in paths:
        simplejpeg.decode_jpeg(path.read_bytes(), strict=True)


def floor(folder: Path) -> None:
    """Decode every file once, whole and strictly, on all cores."""
    paths = sorted((folder / "files").iterdir())
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    Parallel(n_jobs=-1)(delayed(_strict)(chunk) for chunk in chunks)


def whole_filter(folder: Path) -> None:
    """Run the stage with an empty memo."""
    os.chdir(folder)
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    filtering.main(folder / "dataset", Path("raw"), Path("clean"), Path("verdicts.csv"))


LOOPS = {"imread": imread, "floor": floor, "filter": whole_filter}


def measure(name: str, folder: Path) -> float:
    """Seconds of one loop in a fresh process, with an empty memo."""
    with tempfile.TemporaryDirectory() as memo:
        process = subprocess.run(
            [sys.executable, "-m", "bench.filter", "--run", name, str(folder)],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"DVC_ROOT": memo},
        )
    return float(json.loads(process.stdout.splitlines()[-1]))


def run(name: str, folder: Path) -> None:
    """Time one loop in this process."""
    start = time.perf_counter()
    LOOPS[name](folder)
    print(json.dumps(time.perf_counter() - start))


def rates(originals: list[bytes], count: int, repeats: int) -> None:
    rates_of: dict[str, list[float]] = {name: [] for name in LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), originals, count)
        for _ in range(repeats):
            for name, values in rates_of.items():
                values.append(count / measure(name, Path(folder)))
    ratios.show(rates_of, "filter", ("floor", "imread"))


def added(originals: list[bytes], count: int) -> None:
    """Print the CPU seconds of started workers for all images, and for 1 % new ones."""
    params = load_params(ROOT / "params.yaml").filter
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        raw, hundredth = Path(folder) / "raw", count // 100
        seconds = {}
        for what, first, size in (
            ("ready", 10**6, 4 * CHUNK),
            ("all", 0, count),
            ("1 %", 0, count + hundredth),
        ):
            write_raw(raw, list(copies(originals, size, first)))
            before, start = _workers_cpu(), time.perf_counter()
            for _ in judge_all.judge_all(raw, params, judge_all.open_memo(params)):
                pass
            wall = time.perf_counter() - start
            seconds[what] = _workers_cpu() - before
            print(f"{what:>5}: {seconds[what]:6.2f} s of CPU in workers, {wall:.2f} s in all")
    share = seconds["1 %"] / seconds["all"]
    print(f"{hundredth} of {count + hundredth} images new: {share:.1%} of the per-image work")


def _workers_cpu() -> float:
    used = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(times.user + times.system for times in used))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--added", action="store_true")
    parser.add_argument("--photos", type=Path, help="a zip of JPEGs")
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", nargs=2, metavar=("LOOP", "FOLDER"), help="internal")
    options = parser.parse_args()
    if options.run:
        run(options.run[0], Path(options.run[1]))
        return
    originals = photographs(options.photos)
    size = statistics.mean(map(len, originals)) / 1000
    what = f"{len(originals)} {'real' if options.photos else 'drawn'} photographs of {size:.0f} kB"
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"OpenCV {cv2.__version__}; {what}"
    )
    if options.added:
        added(originals, options.images)
    else:
        rates(originals, options.images, options.repeats)


if __name__ == "__main__":
    main()
