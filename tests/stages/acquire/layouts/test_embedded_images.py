import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import PipelineError
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.dataset_toml import FolderDataset
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import contents
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(update={"max_file_megabytes": 1})
DATASET = FolderDataset(kind="folder", description="d", licence="L")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, classes: list[str] | None = None, **columns: list[Any]) -> Path:
    """A Parquet file as the library `datasets` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: pa.array(values, IMAGE) if isinstance(values[0], dict) else pa.array(values)
        for name, values in columns.items()
    }
    table = pa.table(arrays)
    if classes:
        features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=2)
    return path


def image(number: int, name: str | None = None) -> dict[str, object]:
    return {"bytes": b"image %d" % number, "path": name}


def read(path: Path, **keys: object) -> list[RawImage | SkippedItem]:
    dataset = DATASET.model_copy(update=keys)
    return list(contents.read_images(path, dataset, PARAMS, ClassNames()))


def test_hugging_faces_files_have_names_of_classes_and_splits(tmp_path: Path) -> None:
    write(
        tmp_path / "data/train-00000-of-00001.parquet",
        ["cat", "dog"],
        image=[image(0, "a.png"), image(1), image(2)],
        label=[0, 1, 1],
    )
    write(
        tmp_path / "data/test-00000-of-00001.parquet", ["cat", "dog"], image=[image(3)], label=[0]
    )
    (tmp_path / "README.md").write_text("card")
    items = read(tmp_path)
    assert items == [
        RawImage("data/test-00000-of-00001/000000", "cat", b"image 3", "test", "L"),
        RawImage("data/train-00000-of-00001/000000-a.png", "cat", b"image 0", "train", "L"),
        RawImage("data/train-00000-of-00001/000001", "dog", b"image 1", "train", "L"),
        RawImage("data/train-00000-of-00001/000002", "dog", b"image 2", "train", "L"),
    ]
    single = read(tmp_path / "data/train-00000-of-00001.parquet")
    assert [item.label for item in single] == ["cat", "dog", "dog"]


def test_columns_of_bytes_and_of_facts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.parquet",
        photo=[b"one", b"two", None, b"x" * 1_000_001, b"five"],
        species=["cat", "dog", "cat", "dog", None],
        split=["valid", "train", "train", "train", "train"],
        author=["Ann", None, None, None, None],
        license=[None, "CC0-1.0", None, None, None],
    )
    assert read(path) == [
        RawImage("x/000000", "cat", b"one", "val", "L", owner="Ann"),
        RawImage("x/000001", "dog", b"two", "train", "CC0-1.0"),
        SkippedItem("x/000002", SkipReason.MISSING, "cat"),
        SkippedItem("x/000003", SkipReason.TOO_LARGE, "dog"),
        SkippedItem("x/000004", SkipReason.UNLABELLED),
    ]


@pytest.mark.parametrize(
    ("columns", "keys", "message"),
    [
        ({"image": [image(1)], "a": ["x"], "b": ["y"]}, {}, "is known for labels (it has image, a"),
        ({"image": [image(1)], "mask": [image(2)], "label": ["x"]}, {}, "file_column = 'image' or"),
        ({"image": [image(1)], "label": [[1]]}, {}, "'label' has neither texts nor numbers"),
        ({"image": [image(1)], "label": ["x" * 70_000]}, {}, "'label' has 70000 bytes"),
        (
            {"image": [image(1)], "label": ["x"]},
            {"label_column": "y"},
            "no column 'y', which label",
        ),
        (
            {"image": [image(1)], "label": ["x"]},
            {"file_column": "label"},
            "has no images, but image",
        ),
    ],
)
def test_unclear_and_hostile_files_are_refused_in_a_sentence(
    tmp_path: Path, columns: dict[str, list[Any]], keys: dict[str, str], message: str
) -> None:
    write(tmp_path / "x.parquet", **columns)
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, **keys)
    assert message in str(caught.value)


@pytest.mark.parametrize("size", [0, 3, 100, 300])
def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path, size: int) -> None:
    path = write(
        tmp_path / "x.parquet", image=[image(n) for n in range(9)], label=list("ababababa")
    )
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(PipelineError, match=r"x\.parquet is not a readable Parquet file"):
        read(tmp_path)
