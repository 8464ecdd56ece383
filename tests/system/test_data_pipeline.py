"""Filter, split and describe under real DVC, as people's data change."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.core import atomic
from pipeline.core.split_csv import read_split
from pipeline.core.verdicts_csv import read_verdicts
from tests.project import Project, ran

SOURCES = 24  # pictures of each class


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of class folders."""
    for number in range(2 * SOURCES):
        label = ("cat", "dog")[number % 2]
        save(tmp_path / f"photos/{label}/{number}.png", picture(number))
    return tmp_path / "photos"


@pytest.fixture
def project(tmp_path: Path, photos: Path) -> Project:
    found = Project(tmp_path / "project")
    settings = found.folder / "params.yaml"
    text = settings.read_text().replace("name: sample", "name: images")
    text = text.replace("source: datasets ", f"source: {photos} ")
    settings.write_text(text.replace("val: 0.15", "val: 0.25").replace("test: 0.15", "test: 0.25"))
    found.git("commit", "-qam", "my photographs")
    return found


def repro(project: Project) -> str:
    done = project.dvc("repro", "describe")
    assert done.returncode == 0, done.stdout
    return done.stdout


def splits(project: Project) -> dict[str, str]:
    """By name."""
    names = {row.id: row.name for row in read_verdicts(project.folder / "data/verdicts.csv")}
    return {names[row.id]: row.split for row in read_split(project.folder / "data/split.csv")}


def test_an_image_rejected_by_hand_is_gone_and_shown_with_its_reason(project: Project) -> None:
    repro(project)
    verdicts = read_verdicts(project.folder / "data/verdicts.csv")
    assert all(row.is_kept for row in verdicts)
    reject = project.folder / "datasets/images/reject.csv"
    reject.write_text(f"id,why\n{verdicts[5].id},<out of focus>\n")
    printed = repro(project)
    assert "rejected: 1 by_hand" in printed
    assert verdicts[5].name not in splits(project)
    assert len(splits(project)) == 2 * SOURCES - 1
    assert "&lt;out of focus&gt;" in (project.folder / "reports/data.html").read_text()
    reject.unlink()
    repro(project)
    assert len(splits(project)) == 2 * SOURCES


def test_new_images_leave_the_others_where_they_are_and_moves_are_told(
    project: Project, photos: Path
) -> None:
    repro(project)
    before = splits(project)
    for number in range(100, 106):  # unlike any other
        save(photos / f"cat/{number}.png", picture(number))
    printed = repro(project)
    assert "moved" not in printed
    grown = splits(project)
    assert before.items() < grown.items()
    # Copies at half the size: each joins the group of its original, which stays.
    for name in list(before)[:12]:
        pixels = cv2.imread(str(photos / name))
        assert pixels is not None
        save(photos / name.replace(".png", " small.png"), cv2.resize(pixels, (80, 60)))
    printed = repro(project)
    assert "moved" not in printed
    after = splits(project)
    assert grown.items() < after.items()
    for name in list(before)[:12]:
        assert after[name] == after[name.replace(".png", " small.png")]
    printed = change(project, "seed: 1", "seed: 2")
    moved = atomic.read_csv(project.folder / ".cache/split/moves.csv")
    assert f"{len(moved)} images moved since the last run" in printed
    now = splits(project)
    assert len(moved) == sum(after[name] != now[name] for name in after) > 0


def change(project: Project, old: str, new: str) -> str:
    settings = project.folder / "params.yaml"
    text = settings.read_text()
    head, section, rest = text.partition("split:")
    assert old in rest
    settings.write_text(head + section + rest.replace(old, new, 1))
    return repro(project)


def test_an_experiment_starts_from_the_split_that_its_commit_has(
    project: Project, photos: Path
) -> None:
    repro(project)
    project.git("add", "-A")
    project.git("commit", "-qm", "dealt")
    before = splits(project)
    for name in before:
        pixels = cv2.imread(str(photos / name))
        assert pixels is not None
        save(photos / name.replace(".png", " small.png"), cv2.resize(pixels, (80, 60)))
    # What a run in between has left in the workspace has no say in a temporary folder.
    (project.folder / "data/split.csv").unlink()
    (project.folder / "data/split.csv").write_text("id,label,split,group\n")
    done = project.dvc("exp", "run", "--temp", "describe")
    assert done.returncode == 0, done.stdout
    assert "moved" not in done.stdout
    name = project.dvc("exp", "list", "--name-only").stdout.split()[-1]
    project.dvc("exp", "apply", name)  # which complains of the stages after it: they did not run
    assert project.dvc("checkout", "--force", "data/split.csv", "data/verdicts.csv").returncode == 0
    after = splits(project)
    assert before.items() < after.items()


def test_only_what_changed_runs_and_from_nothing_it_ends_the_same(project: Project) -> None:
    repro(project)
    lock = (project.folder / "dvc.lock").read_bytes()
    assert ran(repro(project)) == []
    for folder in ("data", "reports", ".cache", ".dvc/cache"):
        shutil.rmtree(project.folder / folder)
    (project.folder / "dvc.lock").unlink()
    repro(project)
    assert (project.folder / "dvc.lock").read_bytes() == lock
