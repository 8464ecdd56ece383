"""Altered copies that the filter finds, false partners among distinct photographs, and its time.

    python -m bench.near_copies PHOTOS... --recall [--plot docs/near_duplicates.png]
    python -m bench.near_copies PHOTOS... --partners FOLDER
    python -m bench.near_copies PHOTOS... --time

PHOTOS are folders or zips of photographs. --recall alters some of them in each way of
`bench.alterations`. --partners groups all of them, and writes sheets of the pairs that it links
into FOLDER: only a look tells which are false. Photographs of less than 64 pixels are enlarged.
--time runs the stage with and without the search for crops, in turn. Copies that do not differ in
a byte are left out.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa

from bench.alterations import COPIES, CUT, Copy
from pipeline.core import project, shards
from pipeline.images.pixels import Pixels
from pipeline.params import FilterParams, load_params
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter.comparison import compare_images
from pipeline.stages.filter.judge_all import SCHEMA, judge_batch
from pipeline.stages.filter.near_duplicates import copies
from pipeline.stages.filter.near_duplicates.appearance import MIN_SIDE

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
BATCH = 1000
CELL = 72  # pixels, of a photograph on a sheet
PAIRS_ACROSS, PAIRS_DOWN = 10, 16  # on a sheet


def read_files(sources: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of photographs, each once."""
    seen = set()
    for name, data in _read_all(sources):
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            yield name, data


def _read_all(sources: list[Path]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    yield str(path), path.read_bytes()
        elif source.exists():
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if Path(name).suffix.lower() in SUFFIXES:
                        yield f"{source.name}/{name}", archive.read(name)
        else:
            sys.exit(f"bench.near_copies: there is no {source}: nothing was measured")


def decode(data: bytes) -> Pixels | None:
    """RGB, or None where OpenCV does not read it."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if pixels is None else pixels[:, :, ::-1].astype(np.uint8, copy=False)


def encode(pixels: Pixels, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", np.ascontiguousarray(pixels[:, :, ::-1]), options)[1].tobytes()


class Album:
    """Judged images, to be compared."""

    def __init__(self, params: FilterParams) -> None:
        self.params = params
        self.names: list[str] = []
        self._judged: list[pa.RecordBatch] = []
        self._waiting: list[tuple[str, bytes]] = []

    def add(self, name: str, data: bytes) -> None:
        self.names.append(name)
        self._waiting.append((hashlib.sha256(data).hexdigest(), data))
        if len(self._waiting) == BATCH:
            self._judge()

    def _judge(self) -> None:
        rows = [{"id": key, "bytes": data} for key, data in self._waiting]
        schema = pa.schema({"id": pa.string(), "bytes": pa.binary()})
        judged = judge_batch(pa.RecordBatch.from_pylist(rows, schema=schema), self.params)
        self._judged.append(judged.set_column(10, "stored", pa.nulls(len(judged), pa.binary())))
        self._waiting = []

    def groups(self) -> tuple[list[str | None], list[str | None]]:
        """For each image why it is rejected, and its group."""
        if self._waiting:
            self._judge()
        judged = pa.Table.from_batches(self._judged, SCHEMA).combine_chunks().to_batches()[0]
        facts = pa.table(
            {
                "id": judged.column("id"),
                "label": pa.array(["photograph"] * len(judged)),
                "split": pa.nulls(len(judged), pa.string()),
                "reason": judged.column("reason"),
                "phash": judged.column("phash"),
            }
        )
        rows = {key: row for row, key in enumerate(judged.column("id").to_pylist())}

        def lookup(ids: pa.Array, columns: list[str]) -> pa.RecordBatch:
            positions = [rows[key] for key in ids.to_pylist()]
            return judged.select(columns).take(pa.array(positions))

        reasons, groups = compare_images(facts, {}, self.params, lookup)
        return reasons.to_pylist(), groups.to_pylist()


def measure_recall(sources: list[Path], count: int, plot: Path | None) -> None:
    """Print the share of altered copies in the group of their original."""
    crops = load_params(ROOT / "params.yaml").filter
    alone = crops.model_copy(update={"near_duplicate_crops": False})
    originals = _choose(sources, count)
    print(f"{len(originals)} photographs; copies in the group of their original, in percent\n")
    print("| copy | hash alone | with crops |\n|---|---|---|")
    shares: dict[str, list[float]] = {}
    for title, copy in COPIES.items():
        pairs = [(data, _altered(name, data, copy)) for name, data in originals]
        shares[title] = [100 * _share(pairs, params) for params in (alone, crops)]
        print(f"| {title} | {shares[title][0]:.1f} | {shares[title][1]:.1f} |", flush=True)
    if plot:
        draw(shares, plot)


def _choose(sources: list[Path], count: int) -> list[tuple[str, bytes]]:
    """As many photographs of each source, drawn by the digest of their bytes."""
    selected = []
    for number, source in enumerate(sources):
        size = (count + number) // len(sources)
        files = sorted(read_files([source]), key=lambda file: hashlib.sha256(file[1]).digest())
        readable = (file for file in files if _is_photograph(file[1]))
        selected += [next(readable) for _ in range(size)]
    return selected


def _is_photograph(data: bytes) -> bool:
    pixels = decode(data)
    return pixels is not None and min(pixels.shape[:2]) >= MIN_SIDE


def _altered(name: str, data: bytes, copy: Copy) -> bytes:
    pixels = decode(data)
    assert pixels is not None
    return encode(
        copy.alter(pixels, np.random.default_rng(zlib.crc32(name.encode()))), copy.quality
    )


def _share(pairs: list[tuple[bytes, bytes]], params: FilterParams) -> float:
    """Of copies that have the group of their original, each pair compared alone."""
    return statistics.mean(_are_grouped(pair, params) for pair in pairs)


def _are_grouped(pair: tuple[bytes, bytes], params: FilterParams) -> bool:
    album = Album(params)
    for number, data in enumerate(pair):
        album.add(str(number), data)
    _, (first, second) = album.groups()
    return first is not None and first == second


def draw(shares: dict[str, list[float]], path: Path) -> None:
    """Plot the shares against what is cut off."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for title, line in ((" % off each side", "-"), ("up to {} % off each side", "--")):
        names = [title.format(cut) if "{}" in title else f"{cut}{title}" for cut in CUT]
        for column, (label, colour) in enumerate((("hash alone", "#888888"), ("with crops", "C0"))):
            kind = "up to as much off each side" if line == "--" else "off each of the four sides"
            values = [shares[name][column] for name in names]
            axes.plot(CUT, values, line, color=colour, marker="o", label=f"{label}, {kind}")
    axes.axhline(95, color="#cccccc", linewidth=1)
    axes.set(xlabel="cut off (% of the side)", ylabel="copies found (%)", ylim=(0, 102))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def find_partners(sources: list[Path], folder: Path) -> None:
    """Print the groups among photographs; draw the pairs that are linked."""
    params = load_params(ROOT / "params.yaml").filter
    folder.mkdir(parents=True, exist_ok=True)
    album = Album(params)
    project.cache().mkdir(parents=True, exist_ok=True)
    small: dict[str, Pixels] = {}
    for name, data in read_files(sources):
        enlarged = _enlarge(data)
        if enlarged is not None:
            album.add(name, enlarged)
            small[hashlib.sha256(enlarged).hexdigest()] = _fit(enlarged)
    start = time.process_time()
    with _recorded_links() as links:
        reasons, groups = album.groups()
    seconds = time.process_time() - start
    judged = sum(reason is None for reason in reasons)
    sizes = sorted(((groups.count(group)) for group in {*groups} - {None}), reverse=True)
    print(f"{judged} photographs, compared in {seconds:.1f} s of CPU; {len(links)} pairs linked by")
    print(f"crops; {sum(sizes)} photographs in {len(sizes)} groups, the largest of {sizes[:10]}")
    per_sheet = PAIRS_ACROSS * PAIRS_DOWN
    for number in range(0, len(links), per_sheet):
        pairs = [(small[left], small[right]) for left, right in links[number : number + per_sheet]]
        cv2.imwrite(str(folder / f"{number // per_sheet:03d}.png"), _sheet(pairs))
    (folder / "links.json").write_text(json.dumps(links))


def _enlarge(data: bytes) -> bytes | None:
    pixels = decode(data)
    if pixels is None or min(pixels.shape[:2]) >= MIN_SIDE:
        return data
    factor = -(-MIN_SIDE // min(pixels.shape[:2])) + 1
    larger = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return encode(larger.astype(np.uint8, copy=False), 95)


@contextmanager
def _recorded_links() -> Iterator[list[tuple[str, str]]]:
    """The ids of the pairs that are linked meanwhile."""
    links: list[tuple[str, str]] = []
    link_matches = copies._link_matches

    def recorded(matches: Any, look_up: Any, into: Any) -> None:
        link = into.link

        def record(left: Any, right: Any) -> None:
            sides = (look_up(nodes, ["id"]).column("id").to_pylist() for nodes in (left, right))
            links.extend(zip(*sides, strict=True))
            link(left, right)

        into.link = record
        link_matches(matches, look_up, into)
        into.link = link

    copies._link_matches = recorded
    try:
        yield links
    finally:
        copies._link_matches = link_matches


def _fit(data: bytes) -> Pixels:
    pixels = decode(data)
    cell = np.full((CELL, CELL, 3), 60, np.uint8)
    if pixels is not None:
        scale = CELL / max(pixels.shape[:2])
        size = tuple(max(1, round(length * scale)) for length in pixels.shape[1::-1])
        fitted = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        cell[: size[1], : size[0]] = fitted
    return cell


def _sheet(pairs: list[tuple[Pixels, Pixels]]) -> Pixels:
    cells = [np.pad(np.hstack(pair), ((0, 4), (0, 6), (0, 0))) for pair in pairs]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % PAIRS_ACROSS)
    lines = [np.hstack(cells[at : at + PAIRS_ACROSS]) for at in range(0, len(cells), PAIRS_ACROSS)]
    return np.vstack(lines)[:, :, ::-1]


def measure_time(sources: list[Path], count: int, repeats: int) -> None:
    """Print seconds of the stage, memo empty, with and without the search for crops."""
    files = [file for file in read_files(sources) if _is_photograph(file[1])][:count]
    ratios: dict[str, list[float]] = {"CPU": [], "wall": []}
    with tempfile.TemporaryDirectory() as folder:
        labels = ("a", "b")
        rows = (RawImage(n, labels[k % 2], d).row() for k, (n, d) in enumerate(files))
        shards.write(Path(folder) / "raw", shards.RAW, rows)
        for _ in range(repeats):
            without, with_crops = (_time_filter(Path(folder), crops) for crops in (False, True))
            for what in ratios:
                ratios[what].append(with_crops[what] / without[what])
            print(f"{len(files)} photographs: without {without}, with {with_crops}", flush=True)
    for what, values in ratios.items():
        print(f"{what}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")


def _time_filter(folder: Path, crops: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as memo:
        process = subprocess.run(
            [sys.executable, "-m", "bench.near_copies", "--run", str(folder), str(int(crops))],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"DVC_ROOT": memo},
        )
    return dict(json.loads(process.stdout.splitlines()[-1]))


def run(folder: Path, crops: bool) -> None:
    """Time the stage in this process."""
    params = load_params(ROOT / "params.yaml").model_dump(mode="json")
    params["filter"] |= {"near_duplicate_crops": crops, "max_reject_fraction": 1.0}
    os.chdir(folder)
    Path("params.yaml").write_text(json.dumps(params))
    start = time.perf_counter()
    filtering.main(folder / "dataset", Path("raw"), Path("clean"), Path("verdicts.csv"))
    wall = time.perf_counter() - start
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    used = [process.cpu_times() for process in processes]
    print(json.dumps({"CPU": sum(times.user + times.system for times in used), "wall": wall}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--altered", type=int, default=200, help="photographs of --recall")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--partners", type=Path, metavar="FOLDER")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--images", type=int, default=4000, help="of --time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("FOLDER", "CROPS"), help="internal")
    options = parser.parse_args()
    if options.run:
        run(Path(options.run[0]), options.run[1] == "1")
        return
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}")
    if not options.photos:
        sys.exit("bench.near_copies: name folders or zips of photographs: nothing was measured")
    if options.recall:
        measure_recall(options.photos, options.altered, options.plot)
    if options.partners:
        find_partners(options.photos, options.partners)
    if options.time:
        measure_time(options.photos, options.images, options.repeats)


if __name__ == "__main__":
    main()
