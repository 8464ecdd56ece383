"""The photographs that newcomers bring, from `pipeline new` to a report in two commands."""

import io
import json
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.core.split_csv import read_split
from tests.builders.photographs import draw_photograph
from tests.project import Project

FAST = (
    "train.epochs=1",
    "features.views=0",
    "images.augment=none",
    "images.size=32",
    "model.backbone=cifar_cnn",
    "model.weights=none",
    "filter.near_duplicate_bits=null",
    "dataset.source=datasets",
)
PER_CLASS = 6


def photograph(seed: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(draw_photograph(seed, 48, 64)).convert("RGB")
    if form == "HEIF":
        pillow_heif.from_pillow(picture).save(file)
    else:
        picture.save(file, form)
    return file.getvalue()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def class_folders(folder: Path) -> None:
    """Korean, accented and spaced names; the accent as macOS writes it."""
    names = ("강아지 사진", "chat noir", unicodedata.normalize("NFD", "Éléphant"))
    for number in range(3 * PER_CLASS):
        name = names[number % 3]
        write(folder / f"내 사진/{name}/{name} ({number}).jpg", photograph(number))


def hugging_face(folder: Path) -> None:
    """Parquet files of two splits, with the class names in their metadata."""
    label = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for split, numbers in (("train", range(9)), ("test", range(9, 12))):
        images = [{"bytes": photograph(n), "path": f"{n}.jpg"} for n in numbers]
        table = pa.table({"image": images, "label": [n % 2 for n in numbers]})
        path = folder / f"data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(metadata), path)


def webdataset(folder: Path) -> None:
    """Two tars with the class beside each image."""
    folder.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"pets-{shard:06}.tar", "w") as archive:
            for number in range(shard * PER_CLASS, (shard + 1) * PER_CLASS):
                label = json.dumps({"label": ("cat", "dog")[number % 2]}).encode()
                for suffix, data in (("jpg", photograph(number)), ("json", label)):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def flat_names(folder: Path) -> None:
    for number in range(2 * PER_CLASS):
        write(folder / f"{('cat', 'dog')[number % 2]}.{number}.jpg", photograph(number))


def phone(folder: Path) -> None:
    """Albums with HEIC, AVIF, WebP, the films of Live Photos, and what systems leave behind."""
    forms = (("HEIF", "HEIC"), ("AVIF", "avif"), ("WEBP", "webp"))
    for number in range(2 * PER_CLASS):
        album = folder / ("Mimi", "Rex")[number % 2]
        form, suffix = forms[number // 2 % 3]
        write(album / f"IMG_{number:04}.{suffix}", photograph(number, form))
        write(album / f"IMG_{number:04}.MOV", b"\0\0\0\x14ftypqt  ")
        write(album / f"._IMG_{number:04}.{suffix}", b"\0\5\x16\7")
    for junk in ("Mimi/.DS_Store", "Rex/Thumbs.db", "desktop.ini", "Mimi/IMG_0000.AAE"):
        write(folder / junk, b"junk")
    write(folder / "Rex/.ipynb_checkpoints/IMG_0001-checkpoint.jpg", photograph(1))


@pytest.fixture(scope="module")
def project(new_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return new_project.copied(tmp_path_factory.mktemp("newcomers") / "project")


@pytest.mark.parametrize(
    ("draw", "sources", "classes", "origin"),
    [
        (class_folders, "", ("chat noir", "Éléphant", "강아지 사진"), "the folders of the files"),
        (hugging_face, "", ("cat", "dog"), "the column 'label' of data/t"),
        (webdataset, "pets-*.tar", ("cat", "dog"), "the .json file beside each image"),
        (flat_names, "", ("cat", "dog"), "the paths of the files, by the pattern {label}.#"),
        (phone, "", ("Mimi", "Rex"), "the folders of the files"),
    ],
)
def test_two_commands_lead_to_a_report(
    project: Project,
    tmp_path: Path,
    draw: Callable[[Path], None],
    sources: str,
    classes: tuple[str, ...],
    origin: str,
) -> None:
    name = draw.__name__
    draw(tmp_path / name)
    output = project.pipeline("new", name, str(tmp_path / name / sources))
    assert f"labels: from {origin}" in output
    project.experiment(name.replace("_", "-"), f"dataset.name={name}", *FAST)
    rows = read_split(project.folder / "data/split.csv")
    assert Counter(row.label for row in rows) == dict.fromkeys(classes, PER_CLASS)
    report = (project.folder / "reports/report.html").read_text()
    assert all(text in report for text in (name, *classes))
