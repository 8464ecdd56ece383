"""No run carries the name of a data set whose images it did not see, with the real programs."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run

from pipeline.core.split_csv import read_split
from pipeline.datasets.dataset_toml import SampleDataset
from pipeline.stages.acquire.sources import sample
from tests.fakes.flickr import FakeFlickr
from tests.project import Project, ran

PER_CLASS = 24
LABELS = {"bicycle": "ants", "car": "bees"}
FAST = ("-S", "model.backbone=cifar_cnn", "-S", "model.weights=none", "-S", "train.epochs=2")
WARNING = "These are not the images that the data set describes:"


@pytest.fixture
def server() -> Iterator[FakeFlickr]:
    with FakeFlickr([]) as fake:
        yield fake


@pytest.fixture
def project(tmp_path: Path, server: FakeFlickr) -> Project:
    """A project with a data set of insects, whose archive is at an address."""
    project = Project(tmp_path / "project")
    data = insects()
    lines = (
        'kind = "archive"',
        'description = "Ants and bees."',
        'classes = ["ants", "bees"]',
        f'url = "{server.serve("insects.zip", data)}"',
        f'md5 = "{hashlib.md5(data).hexdigest()}"',
    )
    folder = project.folder / "datasets/insects"
    folder.mkdir()
    (folder / "dataset.toml").write_text("\n".join(lines))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "insects")
    return project


def insects(comment: bytes = b"") -> bytes:
    """A zip with pictures in the folders ants and bees."""
    described = SampleDataset(kind="sample", description="d", images_per_class=PER_CLASS, seed=1)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for number, image in enumerate(sample.draw_images(described)):
            if number < 2 * PER_CLASS:  # the defects come last
                name = zipfile.ZipInfo(f"{LABELS[image.label]}/{number}.jpg")  # without the time
                archive.writestr(name, image.data)
    return file.getvalue()


def own_photographs(folder: Path) -> Path:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.jpg").write_bytes(label.encode())
    return folder


def run_of(project: Project, name: str) -> Run:
    (run,) = [run for run in project.runs() if run.info.run_name == name]
    return run


def pages(project: Project) -> list[str]:
    return [(project.folder / f"reports/{name}.html").read_text() for name in ("data", "report")]


def test_the_previous_source_is_refused_and_another_archive_is_named(
    project: Project, tmp_path: Path
) -> None:
    photos = own_photographs(tmp_path / "photos")
    own = ("-S", "dataset.name=images", "-S", f"dataset.source={photos}")
    assert project.dvc("exp", "run", *own, "acquire").returncode == 0
    refused = project.dvc("exp", "run", "-S", "dataset.name=insects")
    assert refused.returncode != 0
    assert (
        f"error: {photos} has other classes than datasets/insects/dataset.toml lists (cat, dog "
        "instead of ants, bees): set -S dataset.source=datasets for the images that belong to "
        "this data set, or -S dataset.name=images for your own\n"
    ) in refused.stdout
    assert ran(refused.stdout) == ["acquire"]

    private = "acquire.allow_private=true"
    named = ("-S", "dataset.name=insects", "-S", "dataset.source=datasets", "-S", private)
    result = project.dvc("exp", "run", "-n", "described", *named, *FAST)
    assert result.returncode == 0, result.stdout
    counts = f"{2 * PER_CLASS} files ({PER_CLASS} ants, {PER_CLASS} bees)"
    assert f"acquire: {counts}; left out: none\n" in result.stdout
    assert {row.label for row in read_split(project.folder / "data/split.csv")} == {"ants", "bees"}
    assert "dataset.deviation" not in run_of(project, "described").data.tags
    assert not any(WARNING in page for page in pages(project))

    copy = tmp_path / "copy.zip"
    copy.write_bytes(insects(b"another file"))
    result = project.dvc("exp", "run", "-n", "copied", "-S", f"dataset.source={copy}")
    assert result.returncode == 0, result.stdout
    digests = [hashlib.md5(data).hexdigest() for data in (copy.read_bytes(), insects())]
    deviation = f"{copy.name} has md5 {digests[0]}, but dataset.toml says {digests[1]}"
    assert f"; left out: none; not as described: {deviation}\n" in result.stdout
    assert all(f"{WARNING}</b> {deviation}." in page for page in pages(project))
    card = json.loads((project.folder / "models/model.json").read_text())
    assert card["deviation"] == deviation
    assert run_of(project, "copied").data.tags["dataset.deviation"] == deviation

    (project.folder / "mlflow.db").unlink()
    assert "copied: created" in project.pipeline("sync")
    assert run_of(project, "copied").data.tags["dataset.deviation"] == deviation
