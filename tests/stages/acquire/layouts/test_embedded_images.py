import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import contents
from tests import ROOT

PARAMS = load_params(ROOT / "params.yaml").acquire.model_copy(update={"max_file_megabytes": 1})
DATASET = FolderDataset(kind="folder", description="d", licence="L")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


PNG = b"\x89PNG\r\n\x1a\n and more"


def write(path: Path, classes: object = None, **columns: list[Any]) -> Path:
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
        split=["train", "valid", "train", "train", "train"],
        author=["Ann", None, None, None, None],
        license=[None, "CC0-1.0", None, None, None],
    )
    assert read(path) == [
        RawImage("x/000000", "cat", b"one", "train", "L", owner="Ann"),
        RawImage("x/000001", "dog", b"two", "val", "CC0-1.0"),
        SkippedItem("x/000002", SkipReason.MISSING, "cat"),
        SkippedItem("x/000003", SkipReason.TOO_LARGE, "dog"),
        SkippedItem("x/000004", SkipReason.UNLABELLED),
    ]


def test_labels_that_hardly_repeat_are_captions(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"image": [image(n) for n in range(4)]}
    texts = [f"a photograph of {n}" for n in range(4)]
    path = write(tmp_path / "x.parquet", **columns, text=texts)
    with pytest.raises(PipelineError, match="4 texts for 4 images are captions"):
        read(path)
    assert labels_of(path, label_column="text") == texts
    path = write(tmp_path / "y.parquet", list("abcd"), **columns, label=list(range(4)))
    assert labels_of(path) == list("abcd")


@pytest.mark.parametrize("missing", [float("nan"), None, "nan", "NaN"])
def test_labels_that_are_not_a_number_are_missing(tmp_path: Path, missing: object) -> None:
    values: list[Any] = ["0", "1", missing] if isinstance(missing, str) else [0.0, 1.0, missing]
    path = write(tmp_path / "x.parquet", image=[image(n) for n in range(3)], label=values)
    *images, _ = sorted(read(path), key=lambda item: item.name)
    assert [item.label for item in images if isinstance(item, RawImage)] == ["0", "1"]
    assert SkippedItem("x/000002", SkipReason.UNLABELLED) in read(path)
    for name in "abc":
        (tmp_path / "beside" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "beside" / f"{name}.jpg").write_bytes(b"x")
    write(tmp_path / "beside" / "t.parquet", id=list("abc"), label=values)
    assert labels_of(tmp_path / "beside") == ["0", "1"]


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


def labels_of(path: Path, **keys: object) -> list[str]:
    return [item.label for item in read(path, **keys) if isinstance(item, RawImage)]


@pytest.mark.parametrize("stem", ["imgs/{}.png", "{}.png", "/home/me/data/imgs/{}.png"])
def test_a_path_without_bytes_names_a_file(tmp_path: Path, stem: str) -> None:
    (tmp_path / "imgs").mkdir()
    for number in range(4):
        (tmp_path / f"imgs/{number}.png").write_bytes(b"image %d" % number)
    images = [{"bytes": None, "path": stem.format(number)} for number in range(4)]
    path = write(tmp_path / "train.parquet", ["cat", "dog"], image=images, label=[0, 1, 1, 0])
    expected = [
        RawImage(f"imgs/{number}.png", label, b"image %d" % number, "train", "L")
        for number, label in enumerate(["cat", "dog", "dog", "cat"])
    ]
    assert read(tmp_path) == expected
    assert read(path) == expected
    with contents.open_contents(tmp_path, DATASET, PARAMS) as read_contents:
        assert {name for _, name in read_contents.files()} == {
            *(f"imgs/{number}.png" for number in range(4)),
            "train.parquet",
        }


@pytest.mark.parametrize("has_statistics", [True, False])
def test_rows_without_bytes_are_counted(tmp_path: Path, has_statistics: bool) -> None:
    images = [image(n) for n in range(7)] + [{"bytes": None, "path": "a.png"}] * 3
    path = write(tmp_path / "x.parquet", image=images, label=list("ababababab"))
    if not has_statistics:
        pq.write_table(pq.read_table(path), path, write_statistics=False)
    params = PARAMS.model_copy(update={"max_missing_fraction": 0.2})
    with contents.open_contents(tmp_path, DATASET, params) as read_contents:
        assert [item.name for item in read_contents.left_out()] == [
            f"x/00000{number}" for number in (7, 8, 9)
        ]
        assert read_contents.count() == {("a", None): 4, ("b", None): 3}
        assert len(list(read_contents.names())) == 7
    params = PARAMS.model_copy(update={"max_missing_fraction": 0.1})
    with (
        pytest.raises(PipelineError, match="3 of 10 rows have no bytes of an image in 'image' of"),
        contents.open_contents(tmp_path, DATASET, params),
    ):
        pass


def test_files_with_and_without_bytes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", image=[image(0), image(1)], label=list("ab"))
    paths = [{"bytes": None, "path": "a.png"}] * 2
    write(tmp_path / "test.parquet", image=paths, label=list("ab"))
    with pytest.raises(
        PipelineError, match=r"train\.parquet has images in its column 'image', but t"
    ):
        read(tmp_path)
    assert labels_of(tmp_path, table="train.parquet") == ["a", "b"]


@pytest.mark.parametrize("options", [{}, {"file_column": "file_name", "label_column": "label"}])
def test_a_parquet_table_beside_images(tmp_path: Path, options: dict[str, str]) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    names = [f"{number}.jpg" for number in range(4)]
    path = write(tmp_path / "all.parquet", file_name=names, label=list("abba"))
    assert labels_of(tmp_path, **options) == list("abba")
    assert labels_of(path, **options) == list("abba")


def test_fields_of_structs_are_columns(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    kind = pa.struct([("name", pa.string()), ("id", pa.int64())])
    labels = pa.array([{"name": name, "id": 1} for name in "abba"], kind)
    table = pa.table({"id": ["0", "1", "2", "3"], "label": labels})
    pq.write_table(table, tmp_path / "x.parquet")
    assert labels_of(tmp_path) == list("abba")
    assert labels_of(tmp_path, label_column="label.name") == list("abba")


@pytest.mark.parametrize(
    "columns",
    [
        {"embedding": [b"\1\2", b"\3\4"]},
        {"embedding": [None, b"x"], "label": [b"cat", b"dog"]},
        {"thumbnail": [None, None]},
    ],
)
def test_bytes_that_are_no_images_are_no_second_column_of_images(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    defaults: dict[str, list[Any]] = {"image": [PNG, PNG], "label": ["cat", "dog"]}
    path = write(tmp_path / "x.parquet", **defaults | columns)
    assert labels_of(path) == ["cat", "dog"]


def test_a_column_of_images_of_any_name_is_found_by_its_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", scan=[PNG, PNG], raw=[b"1", b"2"], label=["cat", "dog"])
    assert labels_of(path) == ["cat", "dog"]


@pytest.mark.parametrize(
    "columns",
    [{"vec": [b"x", b"y"], "id": [1, 2]}, {"image": [PNG, PNG], "width": [1, 2], "x": [1, 2]}, {}],
)
def test_class_folders_beside_another_parquet_file(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    for name in ("cat/1.jpg", "dog/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x.parquet").write_bytes(b"junk")
    if columns:
        write(tmp_path / "x.parquet", **columns)
    assert labels_of(tmp_path) == ["cat", "dog"]


def test_class_folders_beside_a_table_of_clusters(tmp_path: Path) -> None:
    names = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(2)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "embeddings.parquet", file=names, cluster=[0, 1, 0, 1])
    assert labels_of(tmp_path) == ["cat", "cat", "dog", "dog"]
    assert labels_of(tmp_path, label_column="cluster") == ["0", "1", "0", "1"]
    with contents.open_contents(tmp_path, DATASET, PARAMS) as read_contents:
        assert read_contents.notes == (
            "the column 'cluster' of embeddings.parquet (files by its column 'file') is not used "
            "beside class folders, unless label_column names it",
        )


def test_class_folders_and_images_with_labels_are_refused_with_both_readings(
    tmp_path: Path,
) -> None:
    for name in ("x/1.jpg", "y/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    write(tmp_path / "t.parquet", image=[PNG, PNG], label=["cat", "dog"])
    with pytest.raises(AmbiguousLayoutError) as caught:
        read(tmp_path)
    pattern, table = (reading.value for reading in caught.value.readings)
    assert labels_of(tmp_path, pattern=pattern) == ["x", "y"]
    assert labels_of(tmp_path, table=table) == ["cat", "dog"]


def test_a_damaged_file_beside_good_ones_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=[PNG, PNG], label=["cat", "dog"])
    (tmp_path / "b.parquet").write_bytes(b"junk")
    with pytest.raises(PipelineError, match=r"b\.parquet is not a readable Parquet file"):
        read(tmp_path)


@pytest.mark.parametrize("names", [["cat", "dog"], {"0": "cat", "1": "dog"}, {"cat": 0, "dog": 1}])
def test_class_names_may_be_a_list_or_a_table(tmp_path: Path, names: object) -> None:
    path = write(tmp_path / "x.parquet", names, image=[image(0), image(1)], label=[1, 0])
    assert labels_of(path) == ["dog", "cat"]


def test_files_without_class_names_have_those_of_the_others(tmp_path: Path) -> None:
    images = [image(0), image(1)]
    write(tmp_path / "train-0.parquet", ["cat", "dog"], image=images, label=[0, 1])
    write(tmp_path / "train-1.parquet", image=images, label=[1, 1])
    assert labels_of(tmp_path) == ["cat", "dog", "dog", "dog"]


def test_numbers_in_one_file_and_texts_in_another_are_refused(tmp_path: Path) -> None:
    images = [image(0), image(1)]
    write(tmp_path / "train-0.parquet", image=images, label=["cat", "dog"])
    write(tmp_path / "train-1.parquet", image=images, label=[1, 0])
    with pytest.raises(PipelineError, match=r"of train-1\.parquet are numbers, and those of train"):
        read(tmp_path)
    assert labels_of(tmp_path, table="train-0.parquet") == ["cat", "dog"]


def test_files_in_an_archive_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", ["cat", "dog"], image=[image(0), image(1)], label=[1, 0])
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(path, "data/train-0.parquet")
    assert labels_of(tmp_path / "x.zip") == ["dog", "cat"]


def metadata_of(label: object) -> str:
    return json.dumps({"info": {"features": {"label": label}}})


@pytest.mark.parametrize(
    "metadata",
    [
        "{",
        "[" * 60_000,
        "[1]",
        "null",
        '{"info": 1}',
        '{"info": {"features": [1]}}',
        metadata_of(1),
        metadata_of({"_type": ["ClassLabel"], "names": ["cat"]}),
        metadata_of({"_type": "ClassLabel"}),
        metadata_of({"_type": "ClassLabel", "names": 1}),
    ],
)
def test_without_readable_names_of_classes_their_numbers_are_the_labels(
    tmp_path: Path, metadata: str
) -> None:
    path = write(tmp_path / "x.parquet", image=[image(0), image(1)], label=[0, 1])
    table = pq.read_table(path).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path)
    assert labels_of(tmp_path) == ["0", "1"]


@pytest.mark.parametrize("others", [{}, {"README.md": b"card"}])
def test_a_large_file_in_an_archive_is_to_be_unpacked(
    tmp_path: Path, others: dict[str, bytes]
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in {"data/train-0.parquet": bytes(1_000_001), **others}.items():
            archive.writestr(name, data)
    with pytest.raises(PipelineError, match="unpack the archive and give the folder") as caught:
        read(tmp_path / "x.zip")
    assert "data/train-0.parquet is past acquire.max_file_megabytes=1" in str(caught.value)


def test_urls_in_a_parquet_file_are_recognized(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image_url=["http://a/1", "http://a/2"], label=["cat", "dog"])
    with pytest.raises(PipelineError, match=r"'image_url' of a\.parquet has the URLs"):
        read(tmp_path)


@pytest.mark.parametrize("cells", [[0, 1, 1], [0.0, 1.0, 1.0], [False, True, True]])
def test_a_column_for_each_class_beside_the_images(tmp_path: Path, cells: list[Any]) -> None:
    others = [type(cells[0])(1 - cell) for cell in cells]
    images = [image(n) for n in range(3)]
    path = write(tmp_path / "train.parquet", image=images, cat=others, dog=cells)
    assert [item.label for item in read(path)] == ["cat", "dog", "dog"]
    with contents.open_contents(tmp_path, DATASET, PARAMS) as read_contents:
        assert read_contents.count() == {("cat", "train"): 1, ("dog", "train"): 2}
        assert read_contents.origin == (
            "the columns cat, dog... of train.parquet, one of which is 1 in each row (images in "
            "'image')"
        )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([0, 1, 0], r"x.parquet has columns of 0 and 1 \(cat, dog...\), but 1 of 3 rows do not"),
        ([0, 2, 1], "no column of x.parquet is known for labels"),
    ],
)
def test_several_ones_or_other_numbers_beside_images_are_refused(
    tmp_path: Path, cells: list[int], message: str
) -> None:
    path = write(
        tmp_path / "x.parquet", image=[image(n) for n in range(3)], cat=[1, 0, 0], dog=cells
    )
    with pytest.raises(PipelineError, match=message):
        read(path)


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    images = [image(0), image(1), image(2), {"bytes": None, "path": None}]
    labels = pa.array(["cat", None, "dog ", None]).dictionary_encode()
    write(tmp_path / "x.parquet", image=images, label=labels)
    with contents.open_contents(tmp_path, DATASET, PARAMS) as read_contents:
        assert read_contents.count() == {("cat", None): 1, ("dog", None): 1}
        assert list(read_contents.names()) == ["x/000000", "x/000002"]
        left_out = [SkippedItem("x/000003", SkipReason.MISSING)]
        assert list(read_contents.left_out()) == [
            *left_out,
            SkippedItem("x/000001", SkipReason.UNLABELLED),
        ]
