"""Filter, split and describe under real DVC, with changing data."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.core import atomic
from pipeline.core.split_csv import read_split
from tests.builders.verdicts import read_verdicts
from tests.project import Project, ran

SOURCES = 24  # pictures of each class
MOVED = "moved since the last run"


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs in class folders, and a project that has run over them once."""
    folder = tmp_path_factory.mktemp("data-pipeline")
    for number in range(2 * SOURCES):
        label = ("cat", "dog")[number % 2]
        save(folder / f"photos/{label}/{number}.png", picture(number))
    new_project = Project(folder / "first")
    settings = new_project.folder / "params.yaml"
    text = settings.read_text().replace("name: sample", "name: images")
    text = text.replace("source: datasets ", f"source: {folder / 'used/photos'} ")
    settings.write_text(text.replace("val: 0.15", "val: 0.25").replace("test: 0.15", "test: 0.25"))
    new_project.git("commit", "-qam", "my photographs")
    shutil.copytree(folder / "photos", folder / "used/photos")
    repro(new_project)
    new_project.git("add", "-A")
    new_project.git("commit", "-qm", "first run")
    return folder


@pytest.fixture
def photos(first: Path) -> Path:
    """The photographs, at the path that the project knows."""
    shutil.rmtree(first / "used/photos")
    shutil.copytree(first / "photos", first / "used/photos")
    return first / "used/photos"


@pytest.fixture
def project(first: Path, photos: Path, tmp_path: Path) -> Project:
    """A project whose pipeline has run over the photographs, and whose result is committed."""
    return Project.at(first / "first").copied(tmp_path / "project")


def repro(project: Project) -> str:
    process = project.dvc("repro", "describe")
    assert process.returncode == 0, process.stdout
    return process.stdout


def splits(project: Project) -> dict[str, str]:
    """The split of each image, by name."""
    names = {row.id: row.name for row in read_verdicts(project.folder / "data/verdicts.csv")}
    return {names[row.id]: row.split for row in read_split(project.folder / "data/split.csv")}


def test_images_are_rejected_and_relabelled_by_hand(project: Project) -> None:
    verdicts = read_verdicts(project.folder / "data/verdicts.csv")
    assert all(row.is_kept for row in verdicts)
    folder = project.folder / "datasets/images"
    rejected, relabelled = verdicts[5], verdicts[6]
    other = next(row.label for row in verdicts if row.label != relabelled.label)
    (folder / "reject.csv").write_text(f"id,why\n{rejected.id},<out of focus>\n")
    (folder / "relabel.csv").write_text(f"id,label,why\n{relabelled.id},{other},a look\n")
    printed = repro(project)
    assert "rejected: 1 by_hand; relabelled by hand: 1" in printed
    assert rejected.name not in splits(project)
    assert len(splits(project)) == 2 * SOURCES - 1
    rows = {row.id: row for row in read_split(project.folder / "data/split.csv")}
    assert rows[relabelled.id].label == other
    page = (project.folder / "reports/data.html").read_text()
    assert "&lt;out of focus&gt;" in page
    assert f'<td>{relabelled.label}</td><td>{other}</td><td class="n">1</td>' in page
    (folder / "reject.csv").unlink()
    (folder / "relabel.csv").unlink()
    repro(project)
    assert len(splits(project)) == 2 * SOURCES


def test_new_images_move_no_others_and_moves_are_printed(project: Project, photos: Path) -> None:
    before = splits(project)
    for number in range(100, 106):  # unlike any other
        save(photos / f"cat/{number}.png", picture(number))
    printed = repro(project)
    assert MOVED not in printed
    grown = splits(project)
    assert before.items() < grown.items()
    # Copies at half the size: each joins the group of its original, which stays.
    for name in list(before)[:12]:
        pixels = cv2.imread(str(photos / name))
        assert pixels is not None
        save(photos / name.replace(".png", " small.png"), cv2.resize(pixels, (80, 60)))
    printed = repro(project)
    assert MOVED not in printed
    after = splits(project)
    assert grown.items() < after.items()
    for name in list(before)[:12]:
        assert after[name] == after[name.replace(".png", " small.png")]
    printed = change(project, "seed: 1", "seed: 2")
    moved = atomic.read_csv(project.folder / ".cache/split/moves.csv")
    assert f"{len(moved)} images {MOVED}" in printed
    now = splits(project)
    assert len(moved) == sum(after[name] != now[name] for name in after) > 0


def change(project: Project, old: str, new: str) -> str:
    settings = project.folder / "params.yaml"
    text = settings.read_text()
    head, section, rest = text.partition("split:")
    assert old in rest
    settings.write_text(head + section + rest.replace(old, new, 1))
    return repro(project)


def test_an_experiment_starts_from_the_split_of_its_commit(project: Project, photos: Path) -> None:
    before = splits(project)
    for name in before:
        pixels = cv2.imread(str(photos / name))
        assert pixels is not None
        save(photos / name.replace(".png", " small.png"), cv2.resize(pixels, (80, 60)))
    # Files that another run left in the workspace do not affect a temporary folder.
    (project.folder / "data/split.csv").unlink()
    (project.folder / "data/split.csv").write_text("id,label,split,group\n")
    process = project.dvc("exp", "run", "--temp", "describe")
    assert process.returncode == 0, process.stdout
    assert MOVED not in process.stdout  # DVC may name an experiment moved-...
    name = project.dvc("exp", "list", "--name-only").stdout.split()[-1]
    project.dvc("exp", "apply", name)  # reports the later stages as missing: they did not run
    assert project.dvc("checkout", "--force", "data/split.csv", "data/verdicts.csv").returncode == 0
    after = splits(project)
    assert before.items() < after.items()


def test_unchanged_stages_do_not_run_and_a_fresh_run_gives_the_same_lock(project: Project) -> None:
    lock = (project.folder / "dvc.lock").read_bytes()
    assert ran(repro(project)) == []
    for folder in ("data", "reports", ".cache", ".dvc/cache"):
        shutil.rmtree(project.folder / folder)
    (project.folder / "dvc.lock").unlink()
    repro(project)
    assert (project.folder / "dvc.lock").read_bytes() == lock


def many_photos(folder: Path, numbers: range) -> None:
    """Small ones, whose names place them anywhere in their folder."""
    for number in numbers:
        pixels = cv2.resize(picture(number), (48, 40))
        save(folder / f"{('cat', 'dog')[number % 2]}/{number * 7919 % 9973:04d}.png", pixels)


def shard_states(project: Project) -> dict[Path, tuple[int, int]]:
    """Inode and time of the files of data/raw and data/clean; DVC knows a file by these."""
    folders = [project.folder / "data/raw", project.folder / "data/clean"]
    states = {path: path.stat() for folder in folders for path in folder.iterdir()}
    return {path: (state.st_ino, state.st_mtime_ns) for path, state in states.items()}


def run(project: Project, *words: str) -> None:
    process = project.dvc(*words)
    assert process.returncode == 0, process.stdout


def results(project: Project) -> dict[str, bytes]:
    """All that the stages wrote, shards and drawings aside."""
    names = ("data/*.csv", "data/features/*", "models/*", "reports/data.html")
    paths = [path for name in names for path in sorted(project.folder.glob(name))]
    paths.append(project.folder / "reports/metrics.json")
    return {str(path.relative_to(project.folder)): path.read_bytes() for path in paths}


def test_one_per_cent_more_images_change_three_per_cent_of_the_shards_and_no_result(
    project: Project, photos: Path, tmp_path: Path
) -> None:
    """Against a clone that sees all images at once, and with a remote."""
    settings = project.folder / "params.yaml"
    text = settings.read_text().replace("backbone: mobilenet_v2", "backbone: cifar_cnn")
    settings.write_text(text.replace("weights: imagenet", "weights: none"))
    many_photos(photos, range(100, 452))
    run(project, "remote", "add", "-d", "store", str(tmp_path / "store"))
    run(project, "repro", "filter")
    run(project, "push")
    before = shard_states(project)
    sent_before = {path.name for path in (tmp_path / "store").rglob("*")}
    many_photos(photos, range(452, 456))
    run(project, "repro")
    run(project, "push", "acquire", "filter")
    assert before.items() <= shard_states(project).items()  # linked, not written
    new = [path for path in shard_states(project) if path not in before]
    assert {path.name for path in new} == {"00001.arrow", "order.npy"}
    size = sum(path.stat().st_size for path in new)
    assert size <= 0.03 * sum(path.stat().st_size for path in before)
    sent = [p for p in (tmp_path / "store").rglob("*") if p.is_file() and p.name not in sent_before]
    tables = [path.stat().st_size for path in (project.folder / "data").glob("*.csv")]
    listings = 10_000  # bytes of both folders
    assert sum(path.stat().st_size for path in sent) <= size + sum(tables) + listings
    project.git("add", "-A")
    project.git("commit", "-qm", "grown")
    clone = Project.cloned(project, tmp_path / "clone")
    (clone.folder / "dvc.lock").unlink()
    run(clone, "repro")
    assert not (clone.folder / "data/raw/order.npy").exists()
    assert results(clone) == results(project)
