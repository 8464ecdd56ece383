"""`make gpu` on a CPU, and the packages that it needs."""

import json
import subprocess
import sys
import threading
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement

from bench import gpu
from bench.gpu_bench import Bench, Row
from bench.gpu_wheels import GIVEN, PACKAGES, pins
from tests import ROOT

# Runs bench.gpu where only some distributions are there, and prints those that were imported or
# asked for their version.
CONFINED = '''
import importlib.metadata, json, sys

allowed, arguments = json.loads(sys.argv[1]), sys.argv[2:]
asked, distribution = set(), importlib.metadata.distribution

def canonical(name):
    return name.lower().replace("_", "-").replace(".", "-")

owners = {
    module: set(map(canonical, names))
    for module, names in importlib.metadata.packages_distributions().items()
}

def confined_distribution(name):
    if canonical(name) not in allowed:
        raise importlib.metadata.PackageNotFoundError(name)
    asked.add(canonical(name))
    return distribution(name)

importlib.metadata.distribution = confined_distribution

class Confined:
    """A finder that does not see the other distributions."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in owners and not owners[top] & set(allowed):
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Confined, sys.meta_path)
from bench import gpu
sys.argv = ["bench.gpu", *arguments]
code = gpu.main()
tops = {module.split(".")[0] for module in list(sys.modules)}
print(json.dumps(sorted(asked.union(*(owners.get(top, set()) for top in tops)))))
sys.exit(code)
'''


def needed_by_given() -> set[str]:
    """What the machine with a GPU has anyway: the given packages and what they require."""
    names, todo = set[str](), list(GIVEN)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name not in names:
            names.add(name)
            requirements = [Requirement(line) for line in requires(name) or []]
            todo += [
                requirement.name
                for requirement in requirements
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            ]
    return names


def test_it_runs_on_a_cpu_with_the_listed_packages_alone() -> None:
    ours = {"image-pipeline"}
    allowed = [*needed_by_given(), *PACKAGES, *ours]
    process = subprocess.run(
        [sys.executable, "-c", CONFINED, json.dumps(allowed), "--tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    *_, result, used = process.stdout.splitlines()
    rows = {row["name"]: row for row in json.loads(result)["rows"]}
    assert not any(name in process.stdout for name in ("FAIL", "nan"))
    assert {"gradients", "features twice", "a fine-tuning twice"} <= rows.keys()
    assert {name for name, row in rows.items() if row["status"] == "PASS"} >= {"gradients"}
    assert rows["features / bare forward passes"]["value"] > 0
    assert not {"mlflow", "dvc", "pandas", "matplotlib"} & set(json.loads(used))
    assert set(PACKAGES) <= set(json.loads(used)), "a listed package is not needed"


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_pinned_as_in_the_lock_file(name: str) -> None:
    assert any(pin.startswith(f"{name}==") for pin in pins())


def test_the_parts_fit_into_eight_minutes() -> None:
    assert sum(seconds for _, seconds in gpu.PARTS.values()) < 8 * 60 - 15


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Bench):  # type: ignore[no-untyped-def]
        yield Row("first", "PASS")
        raise RuntimeError("CUDA error\nwith details")

    def hangs(_: Bench):  # type: ignore[no-untyped-def]
        yield Row("second", "PASS")
        ended.wait()
        yield Row("never", "PASS")

    def works(_: Bench):  # type: ignore[no-untyped-def]
        yield Row("last", "PASS")

    ended = threading.Event()
    parts = {"fails": (fails, 60), "hangs": (hangs, 0.5), "works": (works, 60)}
    monkeypatch.setattr(gpu, "PARTS", parts)
    try:
        rows = list(gpu.run(None, list(parts)))  # type: ignore[arg-type]
    finally:
        ended.set()
    assert [(row.name, row.status) for row in rows] == [
        ("first", "PASS"),
        ("fails", "FAIL"),
        ("second", "PASS"),
        ("hangs", "FAIL"),
        ("last", "PASS"),
    ]
    assert rows[1].note == "RuntimeError CUDA error"
    assert "longer than 0.5 s" in rows[3].note


def test_a_row_of_the_table_has_its_figure_and_unit() -> None:
    lines = gpu.table([Row("speed", "figure", 1234.5, "images/s", "n"), Row("same", "PASS")])
    assert lines.splitlines()[2:] == [
        "| speed | figure | 1234 images/s | n |",
        "| same | PASS |  |  |",
    ]
