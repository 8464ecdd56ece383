"""filter and features of many images on a Ray cluster, against one process.

    python -m bench.cluster FOLDER                    # measures what FOLDER/cluster.csv lacks
    python -m bench.cluster FOLDER --sizes 1000000 --stages filter
    python -m bench.cluster FOLDER --sizes 100000 --auto    # PIPELINE_CLUSTER=auto against without

The cluster is on this machine: a head, and two workers with one core each. The one process has one
core, too. Images and network are those of `bench.growth`, without augmented views. CPU seconds are
counted by process, so that other work on the machine hardly changes them: those of the stage itself
are what a cluster does not divide.
"""

import argparse
import csv
import hashlib
import os
import platform
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench import growth
from bench.growth import ROOT, Project
from bench.process_tree import Usage
from tests.builders.ray_cluster import RayCluster

STAGES = ("filter", "features")
SIZES = (10_000, 100_000, 1_000_000)
WORKERS = 2
SAMPLE_SECONDS = 0.5  # between looks at the processes of the cluster
PARAMS = growth.PARAMS | {"features.views": 0, "images.augment": "none"}
ONE_CORE = {"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "1"}  # as a worker's parts have it


@dataclass(frozen=True)
class Cost:
    """What one run of a stage took."""

    stage: str
    images: int
    workers: int
    """0 for the stage in one process."""
    seconds: float
    stage_cpu: float
    """CPU seconds of the stage's process and its children."""
    cluster_cpu: float
    """CPU seconds of the cluster's processes, those of its parts included."""
    private_mib: float
    """Largest memory of the stage and its children, without the pages of mapped files."""
    digest: str
    """Of all output files: equal for the same bytes."""


def read_costs(path: Path) -> list[Cost]:
    """The rows of cluster.csv; none where it does not exist."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Cost(
            stage=row["stage"],
            images=int(row["images"]),
            workers=int(row["workers"]),
            seconds=float(row["seconds"]),
            stage_cpu=float(row["stage_cpu"]),
            cluster_cpu=float(row["cluster_cpu"]),
            private_mib=float(row["private_mib"]),
            digest=row["digest"],
        )
        for row in rows
    ]


def _append(path: Path, cost: Cost) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow([field.name for field in fields(Cost)])
        writer.writerow(asdict(cost).values())


@contextmanager
def started_cluster() -> Iterator[RayCluster]:
    """A cluster with workers that find this package."""
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder,
        RayCluster(Path(folder), {"PYTHONPATH": str(ROOT)}) as cluster,
    ):
        for _ in range(WORKERS):
            cluster.add_worker()
        yield cluster


@contextmanager
def watched(cluster: RayCluster) -> Iterator[Usage]:
    """What the machines of a cluster use, sampled in a thread until the block ends."""
    usage, before, has_ended = Usage(), Usage(), threading.Event()

    def sample(usage: Usage) -> None:
        for daemon in cluster.workers:
            usage.sample(daemon)

    def watch() -> None:
        while not has_ended.wait(SAMPLE_SECONDS):
            sample(usage)

    sample(before)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield usage
    finally:
        has_ended.set()
        thread.join()
    for pid, seconds in before.cpu_of.items():
        usage.cpu_of[pid] = usage.cpu_of.get(pid, seconds) - seconds


def digest_outputs(folders: list[Path]) -> str:
    """A digest of the names and bytes of all files."""
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        for path in (path for path in files if path.is_file()):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def measure(project: Project, stage: str, environment: Mapping[str, str], limit: float) -> Cost:
    """Run a stage in one process."""
    cost = project.measure(stage, limit, environment)
    digest = digest_outputs(project.outputs(stage))
    return Cost(
        stage, project.count, 0, cost.seconds, cost.cpu_seconds, 0, cost.private_mib, digest
    )


def measure_cluster(project: Project, stage: str, limit: float) -> Cost:
    """Run a stage whose parts a new cluster computes."""
    with started_cluster() as cluster, watched(cluster) as usage:
        environment = {"PIPELINE_CLUSTER": cluster.address} | ONE_CORE
        cost = measure(project, stage, environment, limit)
    used = {"workers": WORKERS, "cluster_cpu": round(usage.cpu_seconds, 2)}
    return Cost(**asdict(cost) | used)


def print_comparison(alone: Cost, cluster: Cost) -> None:
    """Print both, and what the cluster adds per image."""
    total = cluster.stage_cpu + cluster.cluster_cpu
    added = (total - alone.stage_cpu) / alone.images
    print(
        f"{alone.stage}, {alone.images:,} images: one process {alone.seconds:.1f} s, "
        f"{alone.stage_cpu:.1f} s of CPU, {alone.private_mib:.0f} MiB; cluster "
        f"{cluster.seconds:.1f} s, {cluster.cluster_cpu:.1f} s of CPU and {cluster.stage_cpu:.1f} "
        f"s of the stage, which has {cluster.private_mib:.0f} MiB; {added * 1e6:.0f} us of CPU "
        f"more per image, bytes {'equal' if alone.digest == cluster.digest else 'DIFFER'}",
        flush=True,
    )


def measure_all(folder: Path, stages: list[str], sizes: list[int], limit: float) -> None:
    """Add what is missing to cluster.csv."""
    table = folder / "cluster.csv"
    for size, stage in [(size, stage) for size in sorted(sizes) for stage in stages]:
        costs = {(c.stage, c.images, c.workers): c for c in read_costs(table)}
        project = Project(folder, size, PARAMS)
        for workers in (0, WORKERS):
            if (stage, size, workers) not in costs:
                if workers:
                    cost = measure_cluster(project, stage, limit)
                else:
                    cost = measure(project, stage, ONE_CORE, limit)
                costs[stage, size, workers] = cost
                _append(table, cost)
        print_comparison(costs[stage, size, 0], costs[stage, size, WORKERS])


def compare_auto(project: Project, stage: str, limit: float) -> None:
    """Print what a stage takes with a cluster that is started for it, and without, on all cores."""
    alone = measure(project, stage, {}, limit)
    with tempfile.TemporaryDirectory() as home:  # Ray leaves a token there
        auto = measure(project, stage, {"PIPELINE_CLUSTER": "auto", "HOME": home}, limit)
    print(
        f"{stage}, {project.count:,} images: alone {alone.seconds:.1f} s, {alone.stage_cpu:.1f} s "
        f"of CPU; auto {auto.seconds:.1f} s, {auto.stage_cpu:.1f} s of CPU; load "
        f"{os.getloadavg()[0]:.0f}, bytes {'equal' if alone.digest == auto.digest else 'DIFFER'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--limit", type=float, default=3600, help="seconds")
    parser.add_argument("--auto", action="store_true")
    parser.add_argument("--repeats", type=int, default=3, help="with --auto")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]}")
    folder = options.folder.absolute()
    if options.auto:
        for size, stage in [
            (s, t) for s in options.sizes for t in options.stages
        ] * options.repeats:
            compare_auto(Project(folder, size, PARAMS), stage, options.limit)
        return
    measure_all(folder, list(options.stages), list(options.sizes), options.limit)


if __name__ == "__main__":
    main()
