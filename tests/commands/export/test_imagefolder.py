from operator import attrgetter
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.commands.export.imagefolder import imagefolder
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, write_split
from tests.builders.clean_rows import clean_row
from tests.builders.damage import zero_bytes_of


def encoded(extension: str, level: int) -> bytes:
    _, data = cv2.imencode(extension, np.full((4, 4, 3), level, np.uint8))
    return data.tobytes()


ROWS = [
    ("b", "car", "train", encoded(".png", 1)),
    ("a", "car", "train", encoded(".jpg", 2)),
    ("c", "car", "test", encoded(".jpg", 3)),
    ("d", "bicycle", "train", encoded(".jpg", 4)),
]


def world(folder: Path, rows: list[tuple[str, str, str, bytes]]) -> tuple[Path, Path]:
    """Clean shards with these rows, and their split.csv, as the stages leave them."""
    shards.write(
        folder / "clean",
        shards.CLEAN,
        [clean_row(key, data, label=label, width=4, height=4) for key, label, _, data in rows],
    )
    table = [SplitRow(key, label, name, "") for key, label, name, _ in rows]
    write_split(folder / "split.csv", sorted(table, key=attrgetter("id")))
    return folder / "clean", folder / "split.csv"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("exists", [True, False], ids=["empty folder", "no folder"])
def test_files_are_laid_out_per_split_and_class(tmp_path: Path, exists: bool) -> None:
    destination = tmp_path / "new" / "photos"
    if exists:
        destination.mkdir(parents=True)
    assert imagefolder(*world(tmp_path, ROWS), destination) == 4
    assert contents(destination) == {
        "train/car/car_0000.jpg": ROWS[1][3],
        "train/car/car_0001.png": ROWS[0][3],
        "test/car/car_0000.jpg": ROWS[2][3],
        "train/bicycle/bicycle_0000.jpg": ROWS[3][3],
    }


def test_an_image_that_the_disk_has_damaged_is_not_exported(tmp_path: Path) -> None:
    clean, split_csv = world(tmp_path, ROWS)
    zero_bytes_of(ROWS[2][3], clean)
    with pytest.raises(PipelineError, match=r"has changed on disk: `pipeline doctor --repair`"):
        imagefolder(clean, split_csv, tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


@pytest.mark.parametrize("folder", [True, False])
def test_a_destination_with_something_in_it_is_refused_and_left_alone(
    tmp_path: Path, folder: bool
) -> None:
    destination = tmp_path / "photos"
    precious = destination / "precious" if folder else destination
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("mine")
    with pytest.raises(PipelineError) as caught:
        imagefolder(*world(tmp_path, ROWS), destination)
    assert str(caught.value) == f"{destination} is not empty: name a new folder"
    assert precious.read_text() == "mine"


def test_a_missing_split_says_what_to_run(tmp_path: Path) -> None:
    clean, _ = world(tmp_path, ROWS)
    with pytest.raises(PipelineError, match=r"none\.csv is missing: run `dvc repro` first"):
        imagefolder(clean, tmp_path / "none.csv", tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_a_split_of_other_images_says_what_to_run(tmp_path: Path) -> None:
    clean, split_csv = world(tmp_path, ROWS)
    write_split(split_csv, [SplitRow("other", "car", "train", "")])
    with pytest.raises(PipelineError, match="dvc repro"):
        imagefolder(clean, split_csv, tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


@pytest.mark.parametrize(
    "label", ["../../out", "/etc", "..", ".hidden", "a/b", "a\\b", "nul\0", "two words", "ümläut"]
)
def test_no_label_leads_out_of_the_folder(tmp_path: Path, label: str) -> None:
    destination = tmp_path / "deep" / "photos"
    imagefolder(*world(tmp_path, [("a", label, "train", b"\xff\xd8")]), destination)
    (name,) = contents(tmp_path / "deep")
    start, split_name, folder, file = name.split("/")
    assert (start, split_name) == ("photos", "train")
    assert not folder.startswith(".")
    assert file == f"{folder}_0000.jpg"


def test_classes_that_would_share_a_folder_stay_apart(tmp_path: Path) -> None:
    rows = [("a", "x/y", "train", b"1"), ("b", "x_y", "val", b"2"), ("c", "x:Y", "val", b"3")]
    imagefolder(*world(tmp_path, [*rows, ("d", "z/", "val", b"4")]), tmp_path / "photos")
    folders = {
        content: Path(name).parent.name for name, content in contents(tmp_path / "photos").items()
    }
    assert len({name.casefold() for name in folders.values()}) == 4
    assert all(folders[content].casefold().startswith("x_y-") for content in (b"1", b"2", b"3"))
    assert folders[b"4"] == "z_"
