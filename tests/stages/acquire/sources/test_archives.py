import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources import contents
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").acquire
DATASET = FolderDataset(kind="folder", description="d")


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, f"{path.name}/{name}")


def tarred(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def read(path: Path) -> dict[str, tuple[str, str | None, bytes]]:
    items = contents.read_images(path, DATASET, PARAMS, ClassNames())
    return {
        item.name: (item.label, item.split, item.data)
        for item in items
        if isinstance(item, RawImage)
    }


def test_parts_of_one_set_are_joined(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", "set/cat/1.jpg", "set/dog/1.jpg")
    zipped(tmp_path / "b.zip", "set/cat/1.jpg")
    assert read(tmp_path / "*.zip") == {
        "a/set/cat/1.jpg": ("cat", None, b"a.zip/set/cat/1.jpg"),
        "a/set/dog/1.jpg": ("dog", None, b"a.zip/set/dog/1.jpg"),
        "b/set/cat/1.jpg": ("cat", None, b"b.zip/set/cat/1.jpg"),
    }


def test_junk_beside_archives_is_none_of_them(tmp_path: Path) -> None:
    zipped(tmp_path / "cat.zip", "1.jpg")
    zipped(tmp_path / "dog.zip", "1.jpg")
    (tmp_path / "._cat.zip").write_bytes(b"\0\5\x16\7")
    assert set(read(tmp_path / "*.zip")) == {"cat/1.jpg", "dog/1.jpg"}


def test_archives_named_after_splits(tmp_path: Path) -> None:
    zipped(tmp_path / "train.zip", "cat/1.jpg", "dog/1.jpg")
    zipped(tmp_path / "my_test-2.zip", "cat/1.jpg")
    splits = {name: split for name, (_, split, _) in read(tmp_path / "*").items()}
    assert splits == {
        "my_test-2/cat/1.jpg": "test",
        "train/cat/1.jpg": "train",
        "train/dog/1.jpg": "train",
    }


def test_an_archive_per_class(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        zipped(tmp_path / f"{label}.zip", "1.jpg", "2.jpg")
    assert {name: label for name, (label, _, _) in read(tmp_path / "*.zip").items()} == {
        "cat/1.jpg": "cat",
        "cat/2.jpg": "cat",
        "dog/1.jpg": "dog",
        "dog/2.jpg": "dog",
    }


def test_shards_of_a_webdataset_may_repeat_their_keys(tmp_path: Path) -> None:
    for number, labels in enumerate(("01", "10")):
        members: dict[str, bytes] = {}
        for key, label in enumerate(labels):
            members |= {f"{key}.jpg": f"{number}{key}".encode(), f"{key}.cls": label.encode()}
        tarred(tmp_path / f"train-{number:06d}.tar.gz", members)
    assert read(tmp_path / "train-*.tar.gz") == {
        "train-000000/0.jpg": ("0", "train", b"00"),
        "train-000000/1.jpg": ("1", "train", b"01"),
        "train-000001/0.jpg": ("1", "train", b"10"),
        "train-000001/1.jpg": ("0", "train", b"11"),
    }


def test_no_archive_of_a_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no archive is called .*/\*\.zip"):
        read(tmp_path / "*.zip")


def labels_of(path: Path) -> set[str]:
    return {label for label, _, _ in read(path).values()}


@pytest.mark.parametrize(
    "folders",
    [
        (["d1/cat", "d1/dog"], ["d2/cat", "d2/dog"]),
        (["set-part01/cat"], ["set-part02/dog"]),
        (["set/cat"], ["set/dog"]),
    ],
)
def test_parts_may_have_folders_of_their_own(
    tmp_path: Path, folders: tuple[list[str], list[str]]
) -> None:
    for number, names in enumerate(folders):
        zipped(tmp_path / f"part{number}.zip", *(f"{name}/{number}.jpg" for name in names))
    assert labels_of(tmp_path / "*.zip") == {"cat", "dog"}
    (name, *_) = read(tmp_path / "*.zip")
    assert name == f"part0/{folders[0][0]}/0.jpg"


def test_numbered_webdataset_archives_are_no_classes(tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "dog")):
        tarred(tmp_path / f"pets-{number:06}.tar", {"0.jpg": b"x", "0.cls": label.encode()})
    labels = {label for label, _, _ in read(tmp_path / "pets-*.tar").values()}
    assert labels == {"cat", "dog"}


def test_folders_of_classes_in_several_archives_are_classes(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", "class1/images/1.jpg")
    zipped(tmp_path / "b.zip", "class2/images/1.jpg")
    assert labels_of(tmp_path / "*.zip") == {"class1", "class2"}


def test_other_folders_of_archives_are_refused_with_both_readings(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", "alice/cat/1.jpg", "alice/dog/1.jpg")
    zipped(tmp_path / "b.zip", "bob/cat/1.jpg", "bob/dog/1.jpg")
    with pytest.raises(PipelineError, match="the outer folders alice, bob, or the folders inside"):
        read(tmp_path / "*.zip")
