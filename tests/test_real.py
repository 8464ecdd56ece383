"""README's claims, on real photographs: PIPELINE_TEST_PHOTOS names a folder with the archives."""

import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from imports import ROOT
from project import Project

from pipeline import shards
from pipeline.acquire import __main__ as acquire

PHOTOS = Path(os.environ.get("PIPELINE_TEST_PHOTOS", ""))


def archive(name: str) -> Path:
    """A real archive, or a skip that says what is missing."""
    path = (PHOTOS / name).resolve()
    if not path.is_file():
        pytest.skip(f"PIPELINE_TEST_PHOTOS names no folder with {name}")
    return path


def test_ants_and_bees_beat_the_tutorial(tmp_path: Path) -> None:
    source = archive("hymenoptera_data.zip")
    project = Project(tmp_path / "project", small=False)
    done = project.dvc(
        "exp", "run", "-S", "dataset.name=hymenoptera", "-S", f"dataset.source={source}"
    )
    assert done.returncode == 0, done.stdout
    found = project.metrics()
    assert found["n"] == 153
    assert found["accuracy"] >= 0.95  # the tutorial: 0.9216


@pytest.mark.parametrize(
    ("name", "file", "outside"),
    [
        ("cats_dogs", "petimages_sample.zip", 1),  # a readme
        ("cars_bicycles", "car_bike_sample.zip", 0),
        ("flowers", "flowers_224.zip", 0),
        ("cifar10", "cifar10_jpg.zip", 0),
    ],
)
def test_an_archive_gives_every_file_of_its_class_folders(
    world: Path, name: str, file: str, outside: int
) -> None:
    source = archive(file)
    shutil.copy(ROOT / "params.yaml", world)
    acquire.main(ROOT / "datasets" / name, str(source), Path("raw"), Path("skipped.csv"))
    labels = Counter(shards.columns(Path("raw"), ["label"])["label"].to_pylist())
    with zipfile.ZipFile(source) as opened:
        files = [info.filename for info in opened.infolist() if not info.is_dir()]
    listed = Counter(Path(path).parent.name for path in files)
    assert labels == {label: listed[label] for label in labels}
    assert len(files) - labels.total() == outside
