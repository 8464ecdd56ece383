"""The benchmarks run; their figures are not checked, they need a quiet machine."""

import re
import runpy
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from bench import backbones as bench_backbones
from bench import cluster as bench_cluster
from bench import engine as bench_engine
from bench import growth, growth_plot, many_classes, near_copies, start
from bench import project as bench_project
from bench import quality as bench_quality
from bench import train as bench_train
from bench.project import LOOPS, Project
from pipeline.images.decoding import decode
from tests import ROOT
from tests.builders.forks import Fork, run_dvc
from tests.builders.images import noise_png
from tests.builders.photographs import crop, draw_photograph
from tests.builders.stores import copy_store


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (
            "acquire --images 20 --repeats 1 --latency 0.001 --bytes 1000",
            [
                "sequential: .* images/s",
                "threads: .* images/s",
                "acquire: .* images/s",
                r"acquire / threads: [\d.]+",
            ],
        ),
        (
            "filter --images 20 --repeats 1",
            [
                "imread: .* images/s",
                "floor: .* images/s",
                "filter: .* images/s",
                r"filter / floor: [\d.]+",
                r"filter / imread: [\d.]+",
            ],
        ),
        ("filter --added --images 100", [r"1 of 101 images new: .*% of the per-image work"]),
        ("near --hashes 2000", [r"even, 4 bits: .* MiB, 1000 groups", r"uneven, 4 bits: .* s"]),
        (
            "heads --rows 40 --repeats 1 --penalties 5",
            [
                r"pipeline\.solvers: [\d.]+ s .* best penalty [\de.+-]+",
                r"scikit-learn [\d.]+: [\d.]+ s .* best penalty [\de.+-]+",
                r"scikit-learn / ours, processor seconds: [\d.]+",
            ],
        ),
        ("suspects --run 300 3", [r"\| 300 \| 3 \|( \d+\.\d\d \|){2} \d+\.\d \| \d+ \| \d+ \|"]),
    ],
    ids=["acquire", "filter", "filter, 1 % added", "near", "heads", "suspects"],
)
def test_a_benchmark_prints_its_figures(
    arguments: str, printed: list[str], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.chdir(ROOT)
    name, *options = arguments.split()
    main = partial(runpy.run_module, f"bench.{name}", run_name="__main__", alter_sys=True)
    output = Fork(main, [name, *options], world / "output.txt").finish()
    for line in printed:
        assert re.search(line, output), output


def test_growth_is_measured_once_per_stage_and_size_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the stages that import no network."""
    stages = ["acquire", "split"]
    for _ in range(2):  # the second time nothing is left to do
        growth.measure_all(tmp_path, stages, [100], limit=100)
    costs = growth.read_costs(tmp_path / "growth.csv")
    assert list(costs) == [(stage, 100) for stage in stages]
    assert all(0 < cost.private_mib < cost.rss_mib for cost in costs.values())
    png = tmp_path / "growth.png"
    monkeypatch.setattr(sys, "argv", ["growth_plot", str(png), str(tmp_path / "growth.csv")])
    growth_plot.main()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"\| split \| [\d.]+ s, \d+ MiB \| ", capsys.readouterr().out)


def test_a_cluster_is_compared_with_one_process_by_the_bytes_they_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a cluster, of a stage that has none."""
    project = growth.Project(tmp_path, 100, bench_cluster.PARAMS)
    alone = bench_cluster.measure(project, "split", bench_cluster.ONE_CORE, limit=100)
    bench_cluster._append(tmp_path / "cluster.csv", alone)
    assert bench_cluster.read_costs(tmp_path / "cluster.csv") == [alone]
    together = replace(alone, workers=2, cluster_cpu=alone.stage_cpu + 1)
    bench_cluster.print_comparison(alone, together)
    assert re.search(r"; \d+ us of CPU more per image, bytes equal$", capsys.readouterr().out)
    (tmp_path / "100/data/leaks.csv").write_text("other bytes")
    other = bench_cluster.digest_outputs(project.outputs("split"))
    bench_cluster.print_comparison(alone, replace(together, digest=other))
    assert capsys.readouterr().out.endswith("bytes DIFFER\n")


def test_flags_of_photographs_are_counted_as_they_are_and_made_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat/readme.txt", b"no image")
        for number in range(4):
            archive.writestr(f"cat/{number}.png", noise_png(number))
    monkeypatch.setattr(sys, "argv", ["quality", str(tmp_path / "pets.zip"), "--spoilt", "2"])
    bench_quality.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["pets.zip: 4 images", "  blurred: 0 (0.00%)", "  dark: 0 (0.00%)"]
    assert "  3 stops too dark: dark 100%" in lines


def test_the_exponent_is_that_of_the_seconds_beyond_the_start() -> None:
    costs = [
        growth.Cost("split", size, 0, 3 + 1e-6 * size**1.5, 0, 20 + size * 3e-4)
        for size in (10, 1_000, 10_000, 100_000)
    ]
    assert growth_plot.fit_exponent(costs) == pytest.approx(1.5, abs=0.01)
    assert growth_plot.memory_per_100_000(costs) == pytest.approx(30)


def test_the_benchmark_of_starts_prints_rows_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs DVC in forks."""
    run = subprocess.run

    def run_here(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        if command[1:3] != ["-m", "dvc"]:
            return run(command, **options)
        result = run_dvc(*command[3:], folder=options["cwd"], environment=options["env"])
        assert result.returncode == 0, result.stdout
        return result

    monkeypatch.setattr(subprocess, "run", run_here)
    project = start.prepare(start.write_empty_project(tmp_path / "project", 2))
    others = {"floor": project.no_op, "4f3433c": project.no_op}
    start.measure("all", project.everything, others, repeats=1)
    rows = capsys.readouterr().out.splitlines()
    figure = r"\d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\)"
    for other, row in zip(others, rows, strict=True):
        assert re.fullmatch(rf"\| all \| {other} \|( {figure} \|){{6}}", row)
        assert row.count("|") == start.TITLE.count("|")


@pytest.fixture
def few_images(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample data set with few of its images, for the benchmarks of training."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("pipeline", "bench", "params.yaml"):
        (folder / name).symlink_to(ROOT / name)
    dataset_toml = (ROOT / "datasets/sample/dataset.toml").read_text()
    (folder / "datasets/sample").mkdir(parents=True)
    (folder / "datasets/sample/dataset.toml").write_text(
        dataset_toml.replace("images_per_class = 150", "images_per_class = 20")
    )
    monkeypatch.setattr(bench_project, "ROOT", folder)
    monkeypatch.setattr(bench_train, "ROOT", folder)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (
            "--epochs 1 --seeds 1 --views 1 -S images.size=32",
            [
                "work: .* s",
                r"  test accuracy: [\d.]+",
                r"tutorial / work: [\d.]+ times",
                r"tutorial / work, 1 view: [\d.]+",
                r"tutorial's process / stages' processes: [\d.]+",
            ],
        ),
        (
            "--floor --repeats 1 --views 1 -S images.size=32",
            ["stage: .* features/s", "floor: .* features/s", r"stage / floor: [\d.]+ times"],
        ),
        (
            "--further --repeats 1 --epochs 2 --views 1 -S images.size=32",
            [r"a further training of 2 epochs: [\d.]+ s", r"a further epoch: [\d.]+ ms"],
        ),
        (
            "--backbones cifar_cnn --repeats 1",
            ["cifar_cnn, 32 pixels: ", r"\d+ features, ", "stage: .* features/s"],
        ),
        (
            "--trainable head,features.18 --epochs 2 --views 0 -S images.size=32",
            [r" head +[\d.]+ +[\d.]+ +0\.0", r" features\.18 +[\d.]+ +[\d.]+ +0\.0"],
        ),
    ],
    ids=["tutorial", "floor", "further", "backbones", "trainable"],
)
def test_a_training_benchmark_prints_its_figures(
    arguments: str,
    printed: list[str],
    world: Path,
    few_images: None,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs in this process and its forks: others would import torch for most of a minute."""

    def measure_here(project: Project, name: str) -> object:
        if not (project.folder / "mlflow.db").exists():
            copy_store(empty_store, project.folder)
        monkeypatch.chdir(project.folder)
        monkeypatch.setenv("DVC_ROOT", str(project.folder))
        return LOOPS[name]()

    def start(project: Project, module: str, *arguments: str) -> str:
        monkeypatch.chdir(project.folder)
        main = partial(runpy.run_module, module, run_name="__main__", alter_sys=True)
        output = project.folder / "output.txt"
        return Fork(main, [module, *arguments], output, DVC_ROOT=str(project.folder)).finish()

    monkeypatch.setattr(Project, "_python", start)
    monkeypatch.setattr(Project, "measure", measure_here)
    monkeypatch.setattr(sys, "argv", ["bench.train", *arguments.split()])
    bench_train.main()
    monkeypatch.chdir(world)
    output = capsys.readouterr().out
    for line in printed:
        assert re.search(line, output), output


def test_many_classes_are_drawn_for_every_stage(tmp_path: Path) -> None:
    many_classes.draw(tmp_path, classes=2, images=3)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert files == [f"class 0000{label}/{number}.png" for label in range(2) for number in range(3)]
    shapes = {decode((tmp_path / file).read_bytes()).shape for file in files}
    assert shapes == {(48, 48, 3)}
    commands = dict(many_classes.commands(tmp_path))
    assert list(commands) == list(YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"])
    assert not [word for words in commands.values() for word in words if "$" in word]
    assert str(tmp_path) in commands["acquire"]


def test_engines_are_compared_in_speed_and_accuracy(
    world: Path,
    few_images: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: others would import torch for most of a minute."""

    def measure_here(project: Project, name: str) -> object:
        monkeypatch.chdir(project.folder)
        monkeypatch.setenv("DVC_ROOT", str(project.folder))
        return LOOPS[name]()

    def run_here(command: list[str], cwd: Path, **_: object) -> None:
        monkeypatch.chdir(cwd)
        bench_engine.run_stage(command[-1])

    monkeypatch.setattr(Project, "measure", measure_here)
    monkeypatch.setattr("bench.engine.subprocess.run", run_here)
    engines = "torch-float32,openvino-float32,onnxruntime-float32"
    arguments = f"bench.engine --engines {engines} --repeats 1 -S images.size=32"
    monkeypatch.setattr(sys, "argv", arguments.split())
    bench_engine.main()
    monkeypatch.chdir(world)
    output = capsys.readouterr().out
    for name in engines.split(","):
        assert re.search(rf"{name}: [\d.]+ CPU-s", output), output
        assert re.search(rf"{name}, tensor 0: cos (0\.999999|1\.000000)", output), output
    assert re.search(r"torch-float32 / openvino-float32, s: [\d.]+ times", output), output


def test_backbones_are_compared_by_cross_validation(
    world: Path,
    few_images: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: others would import torch for most of a minute."""

    def measure_here(project: Project, name: str) -> object:
        monkeypatch.chdir(project.folder)
        monkeypatch.setenv("DVC_ROOT", str(project.folder))
        return LOOPS[name]()

    monkeypatch.setattr(Project, "measure", measure_here)
    monkeypatch.setattr(bench_backbones, "ROOT", bench_project.ROOT)
    arguments = "bench.backbones sample= --backbones cifar_cnn,resnet9_narrow --repeats 1 --seeds 2"
    monkeypatch.setattr(sys, "argv", [*arguments.split(), "-S", "model.weights=none"])
    bench_backbones.main()
    monkeypatch.chdir(world)
    output = capsys.readouterr().out
    figure = r"[01]\.\d{4} \(.*? to .*?\)"
    assert re.search(rf"\| sample, n=\d+ \| cifar_cnn \| {figure} \|  \|", output), output
    assert re.search(rf"\| resnet9_narrow \| {figure} \| [-+]{figure} \|", output), output


def save_photographs(path: Path) -> None:
    """Three photographs, and a crop of the first."""
    images = [draw_photograph(seed) for seed in range(3)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, grey in enumerate([*images, crop(5)(images[0])]):
            data = near_copies.encode(np.dstack([grey] * 3), 90)
            archive.writestr(f"{number}.jpg", data)


def test_near_copies_prints_how_many_copies_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, plot = tmp_path / "photographs.zip", tmp_path / "curve.png"
    save_photographs(photographs)
    command = ["bench", str(photographs), "--recall", "--altered", "2", "--plot", str(plot)]
    monkeypatch.setattr(sys, "argv", command)
    near_copies.main()
    output = capsys.readouterr().out
    assert "| mirrored | 0.0 | 100.0 |" in output
    assert "| 5 % off each side | " in output
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_near_copies_draws_the_pairs_that_are_linked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, sheets = tmp_path / "photographs.zip", tmp_path / "sheets"
    save_photographs(photographs)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bench", str(photographs), "--partners", str(sheets)])
    near_copies.main()
    assert "1 pairs linked" in capsys.readouterr().out
    assert sorted(path.name for path in sheets.iterdir()) == ["000.png", "links.json"]


def test_near_copies_stops_without_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", str(tmp_path / "none.zip"), "--recall"])
    with pytest.raises(SystemExit, match="nothing was measured"):
        near_copies.main()
