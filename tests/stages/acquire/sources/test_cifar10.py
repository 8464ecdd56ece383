import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import ArchiveDataset
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import cifar10, contents
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").acquire
DATASET = ArchiveDataset(kind="archive", description="d", licence="L", path="x", records="cifar10")
DESCRIBED = ClassNames()
RANDOM = Random(1)
Pack = Callable[[Path, dict[str, bytes]], Path]


def record(label: int, pixels: bytes | None = None) -> bytes:
    return bytes([label]) + (pixels or RANDOM.randbytes(3072))


TRAIN, MORE, TEST = (record(3) + record(9), record(0), record(3))
CONTENT = {
    "cifar/batches.meta.txt": b"airplane\n",
    "cifar/data_batch_1.bin": TRAIN,
    "cifar/data_batch_2.bin": MORE,
    "cifar/test_batch.bin": TEST,
    "cifar/readme.html": b"<html>",
}


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, content: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pixels(image: RawImage) -> bytes:
    """As the records have them: all red, all green, all blue."""
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert decoded.shape == (32, 32, 3)
    return decoded[:, :, ::-1].transpose(2, 0, 1).tobytes()


def images(
    path: Path, dataset: ArchiveDataset = DATASET, names: ClassNames = DESCRIBED
) -> list[RawImage]:
    items = contents.read_images(path, dataset, PARAMS, names)
    return [item for item in items if isinstance(item, RawImage)]


def error_of(data: bytes) -> str:
    with pytest.raises(PipelineError) as caught:
        list(cifar10.read_records("data_batch_1.bin", data, None))
    return str(caught.value)


def test_a_record_becomes_a_png_of_the_same_pixels() -> None:
    for number, label in enumerate(cifar10.CLASSES):
        data = record(number)
        (image,) = cifar10.read_records("data_batch_1.bin", data, None)
        assert (image.label, pixels(image)) == (label, data[1:])
        assert image.data.startswith(b"\x89PNG")


def test_a_record_has_planes_of_red_green_and_blue_from_the_top() -> None:
    planes = np.zeros((3, 32, 32), np.uint8)
    planes[0, 0, 31] = 200  # red, in the corner at the top right
    (image,) = cifar10.read_records("test_batch.bin", record(0, planes.tobytes()), None)
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded[0, 31].tolist() == [0, 0, 200]
    assert decoded.sum() == 200


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_batches_become_images_with_labels_and_splits_in_order(tmp_path: Path, pack: Pack) -> None:
    path = pack(tmp_path / "cifar", CONTENT)
    batch_images = images(path)
    assert [(image.name, image.label, image.split, image.licence) for image in batch_images] == [
        ("data_batch_1/cat/00000.png", "cat", "train", "L"),
        ("data_batch_1/truck/00001.png", "truck", "train", "L"),
        ("data_batch_2/airplane/00000.png", "airplane", "train", "L"),
        ("test_batch/cat/00000.png", "cat", "test", "L"),
    ]
    assert b"".join(map(pixels, batch_images)) == b"".join(
        batch[start + 1 : start + 3073]
        for batch in (TRAIN, MORE, TEST)
        for start in range(0, len(batch), 3073)
    )


def test_the_same_records_give_the_same_bytes() -> None:
    first, second = (list(cifar10.read_records("data_batch_1.bin", TRAIN, None)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "data",
    [b"", record(0)[:-1], record(0) + b"\0", record(10), record(3) + record(255)],
    ids=["empty", "short", "long", "label", "second label"],
)
def test_bytes_that_are_not_records_are_refused(data: bytes) -> None:
    assert error_of(data) == "data_batch_1.bin is not a file of CIFAR-10 records of 3073 bytes"


def test_an_invalid_batch_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "c.zip", CONTENT | {"cifar/data_batch_2.bin": b"not records"})
    with pytest.raises(PipelineError, match=r"data_batch_2\.bin is not a file of CIFAR-10 records"):
        images(path)


def test_a_copy_with_class_folders_is_read_as_class_folders(tmp_path: Path) -> None:
    names = ("test/dog/1", "train/cat/1", "train/dog/2")
    content = {f"cifar/{name}.png": name.encode() for name in names} | {"readme.txt": b""}
    path = zipped(tmp_path / "c.zip", content)
    of_copy = images(path, names=ClassNames(source=str(path)))
    assert [(image.label, image.split, image.data) for image in of_copy] == [
        ("dog", "test", b"test/dog/1"),
        ("cat", "train", b"train/cat/1"),
        ("dog", "train", b"train/dog/2"),
    ]
    with pytest.raises(PipelineError, match=r"toml: records = 'cifar10', but no file in it"):
        images(path)


def test_batches_are_files_unless_dataset_toml_says_records(tmp_path: Path) -> None:
    dataset = ArchiveDataset(kind="archive", description="d", path="x")
    path = zipped(tmp_path / "c.zip", CONTENT)
    assert {image.label for image in images(path, dataset)} == {"cifar"}


def test_a_batch_that_is_a_link_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "c.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("cifar/data_batch_1.bin")
        info.size = len(TRAIN)
        archive.addfile(info, io.BytesIO(TRAIN))
        link = tarfile.TarInfo("cifar/data_batch_2.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "data_batch_1.bin"
        archive.addfile(link)
    items = contents.read_images(path, DATASET, PARAMS, ClassNames())
    skipped = [item for item in items if isinstance(item, SkippedItem)]
    assert skipped == [SkippedItem("cifar/data_batch_2.bin", SkipReason.NOT_A_FILE)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("data_batch_1.bin", True),
        ("a/b/test_batch.bin", True),
        ("data_batch_1.png", False),
        ("__MACOSX/a/._data_batch_1.bin", False),
        ("data_batch_1.bin/readme", False),
        ("batches.meta.bin", False),
    ],
)
def test_a_batch_is_recognized_by_its_name(name: str, expected: bool) -> None:
    assert cifar10.is_batch(name) is expected
