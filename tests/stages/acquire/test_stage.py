import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.datasets.source_path import check_source
from pipeline.params import AcquireParams, load_params, with_overrides
from pipeline.stages.acquire import __main__ as stage
from pipeline.stages.acquire.raw_image import SKIPPED_COLUMNS, RawImage, SkippedItem, SkipReason
from pipeline.stages.acquire.sources import dispatch
from pipeline.stages.acquire.sources.cifar10 import CLASSES
from tests import ROOT
from tests.builders.s3 import BUCKET, serve_s3, use_s3
from tests.fakes.flickr import KEY, SECRET, FakeFlickr
from tests.fakes.photos import photos as fake_photos

SHIPPED = load_params(ROOT / "params.yaml")
PARAMS = SHIPPED.acquire.model_copy(
    update={"max_gigabytes": 1, "max_file_megabytes": 1, "per_host_per_second": 0}
)
OPEN = PARAMS.model_copy(update={"allow_private": True, "workers": 4, "max_missing_fraction": 0.5})
AS_DESCRIBED = "datasets"
CARS = fake_photos("car", 60)
JPEG = b"\xff\xd8\xff\xe0"
PHOTOS = {"cat/1.jpg": b"one", "cat/2.jpg": b"two", "dog/1.jpg": b"three"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml."""
    write_params(tmp_path, PARAMS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path


@pytest.fixture
def fake(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeFlickr]:
    write_params(project, OPEN)
    with FakeFlickr([*CARS, *fake_photos("bicycle", 60)], photo_bytes=2000) as fake:
        monkeypatch.setenv("FLICKR_API_KEY", KEY)
        monkeypatch.setenv("FLICKR_API_SECRET", SECRET)
        monkeypatch.setenv("FLICKR_API_URL", fake.api_url)
        yield fake


def write_params(project: Path, params: AcquireParams) -> None:
    overrides = {f"acquire.{key}": value for key, value in params.model_dump().items()}
    params_yaml = json.dumps(with_overrides(SHIPPED, overrides).model_dump())
    (project / "params.yaml").write_text(params_yaml)


def write_dataset(project: Path, *lines: str) -> Path:
    folder = project / "datasets" / "mine"
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text("\n".join(['description = "d"', *lines]))
    return folder


def write_photos(folder: Path) -> Path:
    for name, data in PHOTOS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(path: Path, content: Mapping[str, bytes] = PHOTOS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def images(
    folder: Path, source: str = AS_DESCRIBED, params: AcquireParams = PARAMS
) -> list[RawImage]:
    return [item for item in items_of(folder, source, params) if isinstance(item, RawImage)]


def items_of(
    folder: Path, source: str = AS_DESCRIBED, params: AcquireParams = PARAMS
) -> Iterator[RawImage | SkippedItem]:
    with dispatch.open_source(folder, source, params) as acquired:
        yield from acquired.items


def acquire(
    folder: Path, source: str = AS_DESCRIBED, params: AcquireParams = PARAMS
) -> dict[str, bytes]:
    return {image.name: image.data for image in images(folder, source, params)}


def run(folder: Path, source: str = AS_DESCRIBED, raw: str = "raw") -> None:
    stage.main(folder, source, Path(raw), Path("skipped.csv"))


def read_skipped() -> list[dict[str, str]]:
    return atomic.read_csv(Path("skipped.csv"))


def write_list(path: Path, *rows: dict[str, str]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    atomic.write_csv(path, columns, [[row.get(column, "") for column in columns] for row in rows])
    return path


def url_of(fake: FakeFlickr, number: int) -> str:
    return fake.url(CARS[number].path("z"))


def bicycle(fake: FakeFlickr) -> dict[str, str]:
    """A row of a list, for a second class."""
    return {"url": url_of(fake, 1), "label": "bicycle"}


def error_of(folder: Path, source: str) -> str:
    with pytest.raises(PipelineError) as caught:
        acquire(folder, source)
    return str(caught.value)


def test_a_folder_is_relative_to_dataset_toml(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    write_photos(folder / "photos")
    assert acquire(folder) == PHOTOS


def test_an_archive_is_relative_to_dataset_toml(project: Path) -> None:
    folder = write_dataset(project, 'kind = "archive"', 'path = "photos.zip"')
    zipped(folder / "photos.zip")
    assert acquire(folder) == PHOTOS


@pytest.mark.parametrize(
    "lines",
    [
        ['kind = "folder"'],
        ['kind = "folder"', 'path = "elsewhere"'],
        ['kind = "archive"', 'url = "https://example.org/a.zip"', f'sha256 = "{"0" * 64}"'],
    ],
)
@pytest.mark.parametrize("archived", [True, False])
def test_a_source_overrides_dataset_toml(project: Path, lines: list[str], archived: bool) -> None:
    source = zipped(project / "my.zip") if archived else write_photos(project / "my photos")
    assert acquire(write_dataset(project, *lines), str(source)) == PHOTOS


def test_a_source_may_start_with_a_tilde(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    write_photos(project / "pictures")
    assert acquire(write_dataset(project, 'kind = "folder"'), "~/pictures") == PHOTOS


def test_splits_are_those_of_dataset_toml(project: Path) -> None:
    folder = write_dataset(
        project, 'kind = "folder"', "[splits]", 'val = "test"', 'train = "train"'
    )
    for name in ("val", "train"):
        write_photos(project / "photos" / name)
    results = images(folder, str(project / "photos"))
    assert {(image.name.split("/")[0], image.split) for image in results} == {
        ("val", "test"),
        ("train", "train"),
    }


def test_a_dataset_without_a_path_requires_a_source(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"')
    assert error_of(folder, AS_DESCRIBED).startswith(
        f"{folder} does not name a source: set -S dataset.source=/absolute/path"
    )


def test_a_missing_source_is_reported(project: Path) -> None:
    message = error_of(write_dataset(project, 'kind = "folder"'), "/nowhere/at/all")
    assert message == "/nowhere/at/all does not exist: give a folder or archive as dataset.source"


@pytest.mark.parametrize(
    "lines", [['kind = "digits"'], ['kind = "sample"', "images_per_class = 10", "seed = 1"]]
)
def test_a_generated_data_set_refuses_a_source(project: Path, lines: list[str]) -> None:
    folder = write_dataset(project, *lines)
    assert error_of(folder, "/my/photos").startswith(
        f"dataset.source=/my/photos has no meaning for {folder}, which makes its own images: use"
    )


def test_a_source_that_is_a_url_may_not_be_private(project: Path, fake: FakeFlickr) -> None:
    source = fake.serve("a.zip", b"x")
    message = error_of(write_dataset(project, 'kind = "folder"'), source)
    assert message.startswith(f"{source} leads to the private address 127.0.0.1")


def test_a_url_of_dataset_toml_may_not_be_private(project: Path, fake: FakeFlickr) -> None:
    url = fake.serve("a.zip", b"x").replace("127.0.0.1", "localhost")
    message = error_of(write_dataset(project, 'kind = "archive"', f'url = "{url}"'), AS_DESCRIBED)
    assert message.startswith(f"{url} leads to the private address 127.0.0.1")


def test_the_sample_needs_nothing_else(project: Path) -> None:
    folder = write_dataset(project, 'kind = "sample"', "images_per_class = 10", "seed = 1")
    first = next(items_of(folder))
    assert first.name == "bicycle/bicycle_0000.jpg"


@pytest.mark.parametrize("path", ["lists/mine.csv"])
def test_a_list_is_relative_to_dataset_toml(project: Path, fake: FakeFlickr, path: str) -> None:
    folder = write_dataset(project, 'kind = "urls"', f'path = "{path}"', 'licence = "L"')
    (folder / path).parent.mkdir(exist_ok=True)
    rows = {"url": url_of(fake, 0), "label": "car", "title": "T"}, bicycle(fake)
    write_list(folder / path, *rows)
    image, _ = images(folder, params=OPEN)
    assert image.data == fake.photo_bytes_of(CARS[0], "z")
    assert (image.label, image.title, image.licence) == ("car", "T", "L")


def test_a_list_may_be_in_object_storage(
    project: Path, fake: FakeFlickr, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"url": url_of(fake, 0), "label": "car"}, bicycle(fake)
    local = write_list(project / "mine.csv", *rows)
    with serve_s3() as address:
        use_s3(monkeypatch, address)
        s3fs.S3FileSystem(skip_instance_cache=True).put(str(local), f"{BUCKET}/lists/mine.csv")
        folder = write_dataset(project, 'kind = "urls"', f'path = "s3://{BUCKET}/lists/mine.csv"')
        image, other = images(folder, params=OPEN)
    assert (image.data, image.label) == (fake.photo_bytes_of(CARS[0], "z"), "car")
    assert other.label == "bicycle"


@pytest.mark.parametrize("name", ["mine.csv", "MINE.CSV"])
def test_a_source_can_be_a_list(project: Path, fake: FakeFlickr, name: str) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'licence = "L"')
    rows = {"url": url_of(fake, 0), "label": "car"}, bicycle(fake)
    path = write_list(project / name, *rows)
    image, _ = images(folder, str(path), OPEN)
    assert (image.label, image.licence) == ("car", "L")


def table_bytes(suffix: str, rows: Sequence[Mapping[str, str]]) -> bytes:
    """A table in the format of a suffix."""
    if suffix == ".parquet":
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
        return file.getvalue()
    if suffix == ".jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    separator = "\t" if suffix == ".tsv" else ","
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"{separator.join(line)}\n" for line in lines).encode()


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        (".csv", "mine.csv"),
        (".tsv", "mine.tsv?version=2.zip"),
        (".parquet", "MINE.Parquet"),
        (".jsonl", "mine.jsonl"),
        (".csv", "export?format=csv"),
        (".tsv", "export?format=tsv"),
        (".parquet", "export"),
    ],
)
@pytest.mark.parametrize("is_described", [True, False])
def test_a_list_may_be_at_a_url(
    project: Path, fake: FakeFlickr, suffix: str, name: str, is_described: bool
) -> None:
    rows = {"url": url_of(fake, 0), "label": "car"}, bicycle(fake)
    path, _, query = name.partition("?")
    url = f"{fake.serve(path, table_bytes(suffix, rows))}?{query}".rstrip("?")
    lines = ['kind = "urls"', f'path = "{url}"'] if is_described else ['kind = "folder"']
    folder = write_dataset(project, *lines, 'licence = "L"')
    source = AS_DESCRIBED if is_described else url
    assert check_source(folder, source) == source
    with dispatch.open_source(folder, source, OPEN) as acquired:
        image, other = [item for item in acquired.items if isinstance(item, RawImage)]
    assert (image.data, image.label) == (fake.photo_bytes_of(CARS[0], "z"), "car")
    assert (other.label, other.licence, acquired.deviation) == ("bicycle", "L", "")


def test_the_described_url_as_source_is_no_deviation(project: Path, fake: FakeFlickr) -> None:
    rows = {"url": url_of(fake, 0), "label": "car"}, bicycle(fake)
    url = fake.serve("mine.csv", table_bytes(".csv", rows))
    folder = write_dataset(project, 'kind = "urls"', f'path = "{url}"')
    with dispatch.open_source(folder, url, OPEN) as acquired:
        assert (len(list(acquired.items)), acquired.deviation) == (2, "")


def test_a_parquet_file_at_a_url_may_have_the_images(project: Path, fake: FakeFlickr) -> None:
    images = [{"bytes": JPEG + name.encode()} for name in PHOTOS]
    labels = [name.partition("/")[0] for name in PHOTOS]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": labels}), file)
    url = fake.serve("train.parquet", file.getvalue())
    folder = write_dataset(project, 'kind = "folder"')
    assert sorted(acquire(folder, url, OPEN).values()) == sorted(x["bytes"] for x in images)


def test_a_table_of_files_at_a_url_has_none(project: Path, fake: FakeFlickr) -> None:
    url = fake.serve("train.csv", b"file,label\n1.jpg,cat\n2.jpg,dog\n")
    with pytest.raises(PipelineError, match=r"names, for instance '1\.jpg', '2\.jpg', where there"):
        acquire(write_dataset(project, 'kind = "folder"'), url, OPEN)


def test_a_missing_list_is_reported(project: Path) -> None:
    folder = write_dataset(project, 'kind = "urls"')
    assert error_of(folder, AS_DESCRIBED) == f"{folder}/urls.csv does not exist"


FLICKR = [
    'kind = "flickr"',
    "seed = 1",
    "wanted = { train = 6, test = 3 }",
    'classes.car.text = "car"',
    'classes.bicycle.text = "bicycle"',
]


def test_without_a_pin_flickr_is_searched(project: Path, fake: FakeFlickr) -> None:
    results = images(write_dataset(project, *FLICKR), params=OPEN)
    assert [image.label for image in results] == ["car"] * 9 + ["bicycle"] * 9


@pytest.mark.parametrize(
    "lines",
    [
        FLICKR,
        ['kind = "urls"'],
        ['kind = "folder"', 'path = "nowhere"'],
        ['kind = "archive"', 'url = "http://127.0.0.1:1/a.zip"'],
    ],
    ids=["flickr", "urls", "folder", "archive"],
)
def test_a_pin_overrides_dataset_toml(project: Path, fake: FakeFlickr, lines: list[str]) -> None:
    folder = write_dataset(project, *lines)
    write_list(
        folder / "photos.csv",
        {"id": "7", "url": url_of(fake, 0), "label": "car"},
        {"id": "8", "url": url_of(fake, 1), "label": "bicycle"},
    )
    assert acquire(folder, params=OPEN) == {
        "car/7": fake.photo_bytes_of(CARS[0], "z"),
        "bicycle/8": fake.photo_bytes_of(CARS[1], "z"),
    }
    assert {request.kind for request in fake.requests} == {"photo"}


def test_a_source_overrides_a_pin(project: Path) -> None:
    folder = write_dataset(project, *FLICKR)
    (folder / "photos.csv").write_text("not a list")
    photos = {"bicycle/1.jpg": b"one", "car/1.jpg": b"two"}
    assert acquire(folder, str(zipped(project / "photos.zip", photos))) == photos


def test_a_pinned_url_may_not_be_private(project: Path, fake: FakeFlickr) -> None:
    folder = write_dataset(project, 'kind = "urls"')
    write_list(folder / "photos.csv", {"url": url_of(fake, 0), "label": "car"}, bicycle(fake))
    item = next(items_of(folder))
    assert isinstance(item, SkippedItem)
    assert item.reason is SkipReason.PRIVATE_ADDRESS


def test_a_url_of_dataset_toml_is_downloaded(project: Path, fake: FakeFlickr) -> None:
    data = zipped(project / "a.zip").read_bytes()
    url = fake.serve("a.zip", data)
    digest = hashlib.sha256(data).hexdigest()
    folder = write_dataset(
        project, 'kind = "archive"', f'url = "{url}"', f'sha256 = "{digest}"', f"size = {len(data)}"
    )
    assert acquire(folder, params=OPEN) == PHOTOS


def test_an_archive_with_another_digest_is_refused(project: Path, fake: FakeFlickr) -> None:
    url = fake.serve("a.zip", zipped(project / "a.zip").read_bytes())
    folder = write_dataset(project, 'kind = "archive"', f'url = "{url}"', f'sha256 = "{"0" * 64}"')
    with pytest.raises(PipelineError, match=r"a\.zip has sha256 .* but dataset\.toml says 0000"):
        acquire(folder, params=OPEN)


def test_a_source_that_is_a_url_is_not_checked_against_dataset_toml(
    project: Path, fake: FakeFlickr
) -> None:
    url = fake.serve("b.zip", zipped(project / "b.zip").read_bytes())
    folder = write_dataset(
        project, 'kind = "archive"', 'url = "http://a/b"', f'sha256 = "{"0" * 64}"', "size = 3"
    )
    assert acquire(folder, url, OPEN) == PHOTOS


def test_the_stage_writes_raw_shards_and_counts_labels(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'licence = "CC0-1.0"')
    run(folder, str(write_photos(project / "photos")))
    table = shards.columns(project / "raw", shards.RAW.names)
    assert table.schema == shards.RAW
    assert dict(zip(table["name"].to_pylist(), table["bytes"].to_pylist(), strict=True)) == PHOTOS
    assert table["label"].to_pylist() == ["cat", "cat", "dog"]
    assert set(table["licence"].to_pylist()) == {"CC0-1.0"}
    assert capsys.readouterr().out == (
        f"acquire: from {project}/photos\nacquire: 3 files (2 cat, 1 dog); left out: none\n"
    )
    assert read_skipped() == []
    assert Path("skipped.csv").read_text() == "name,label,url,reason\n"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"dog": 1, "cat": 2}, "2 cat, 1 dog"),
        ({f"c{number}": 3 for number in range(10)}, ", ".join(f"3 c{n}" for n in range(10))),
        ({f"c{number}": number for number in range(1, 12)}, "11 classes of 1 (c1) to 11 (c11)"),
        ({f"c{number:04}": 2 for number in range(10_000)}, "10000 classes of 2"),
        ({}, ""),
    ],
)
def test_the_summary_names_a_few_classes(counts: dict[str, int], expected: str) -> None:
    assert stage.describe_classes(Counter(counts)) == expected


def test_the_stage_writes_the_skipped_files_with_reasons(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    write_photos(folder / "photos")
    for name in ("notes.txt", ".DS_Store", "._notes.txt"):
        (folder / "photos" / name).write_bytes(b"x")
    (folder / "photos/cat/large.jpg").write_bytes(bytes(1_000_001))
    run(folder)
    assert [tuple(row.values()) for row in read_skipped()] == [
        ("cat/large.jpg", "", "", "too_large"),
        ("notes.txt", "", "", "outside_class_folders"),
    ]
    assert capsys.readouterr().out == (
        "acquire: 3 files (2 cat, 1 dog); left out: 1 too_large, 1 outside_class_folders\n"
    )


def test_skipped_csv_has_the_urls_of_missing_photographs(project: Path, fake: FakeFlickr) -> None:
    folder = write_dataset(project, 'kind = "urls"')
    gone = fake.url("/65535/nothing.jpg")
    write_list(
        folder / "urls.csv",
        {"url": gone, "label": "car"},
        {"url": url_of(fake, 0), "label": "car"},
        bicycle(fake),
    )
    run(folder)
    assert read_skipped() == [
        dict(zip(SKIPPED_COLUMNS, ("car/nothing.jpg", "car", gone, "gone"), strict=True))
    ]


def test_skipped_csv_is_written_if_a_list_fails(project: Path, fake: FakeFlickr) -> None:
    folder = write_dataset(project, 'kind = "urls"')
    labels = ("car", "car", "car", "bicycle")
    write_list(
        folder / "urls.csv",
        *({"url": f"ftp://a/{n}", "label": label} for n, label in enumerate(labels)),
    )
    with pytest.raises(PipelineError, match="max_missing_fraction"):
        run(folder)
    assert [row["name"] for row in read_skipped()] == ["car/0", "car/1", "car/2"]
    assert not Path("raw").exists()


def test_skipped_csv_is_written_if_a_search_fails(project: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[:5])
    folder = write_dataset(project, *FLICKR[:2], "wanted = { train = 100 }", *FLICKR[3:])
    write_params(project, OPEN.model_copy(update={"max_missing_fraction": 0.1}))
    with pytest.raises(PipelineError, match="max_missing_fraction"):
        run(folder)
    assert {row["reason"] for row in read_skipped()} == {"gone"}
    assert len(read_skipped()) == 5


def test_a_name_with_line_breaks_is_one_row(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    write_photos(folder / "photos")
    names = ["a\nb.txt", "c\rd.txt", 'e"f,g.txt']
    for name in names:
        (folder / "photos" / name).write_bytes(b"x")
    run(folder)
    assert [row["name"] for row in read_skipped()] == names


def test_skipped_csv_is_replaced_by_each_run(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    (write_photos(folder / "photos") / "notes.txt").write_bytes(b"x")
    run(folder)
    (folder / "photos/notes.txt").unlink()
    run(folder)
    assert read_skipped() == []


def outputs(raw: str) -> tuple[list[bytes], bytes]:
    files = [path.read_bytes() for path in shards.paths(Path(raw))]
    return files, Path("skipped.csv").read_bytes()


def check_reproducible(folder: Path) -> None:
    run(folder, raw="first")
    first = outputs("first")
    (Path(".cache")).rename("other")
    run(folder, raw="second")
    assert outputs("second") == first


def test_a_folder_gives_reproducible_bytes(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    (write_photos(folder / "photos") / "notes.txt").write_bytes(b"x")
    check_reproducible(folder)


def test_a_search_gives_reproducible_bytes(project: Path, fake: FakeFlickr) -> None:
    fake.removed.update(photo.id for photo in CARS[::7])
    check_reproducible(write_dataset(project, *FLICKR))


def test_a_list_gives_reproducible_bytes(project: Path, fake: FakeFlickr) -> None:
    folder = write_dataset(project, 'kind = "urls"')
    fake.removed.add(CARS[3].id)
    rows: list[dict[str, Any]] = [{"url": url_of(fake, n), "label": "car"} for n in range(20)]
    rows[0]["label"] = "bicycle"
    write_list(folder / "urls.csv", *rows)
    check_reproducible(folder)


def test_a_source_that_fails_leaves_the_old_shards(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "photos"')
    write_photos(folder / "photos")
    run(folder)
    with pytest.raises(PipelineError):
        run(folder, "/nowhere/at/all")
    assert len(shards.columns(project / "raw", ["id"])) == len(PHOTOS)


# The source of another data set


CATS_AND_DOGS = 'classes = ["cat", "dog"]'
ANTS_AND_BEES = 'classes = ["ants", "bees"]'


def refusal(folder: Path, source: str, outs: tuple[str, ...] = ("raw", "skipped.csv")) -> str:
    """The message of the stage, which must not have written anything."""
    before = {name: Path(name).exists() for name in outs}
    with pytest.raises(PipelineError) as caught:
        run(folder, source)
    assert {name: Path(name).exists() for name in outs} == before
    return str(caught.value)


def photo_list(project: Path, fake: FakeFlickr, *labels: str) -> str:
    rows = [{"url": url_of(fake, n), "label": label} for n, label in enumerate(labels)]
    return str(write_list(project / "list.csv", *rows))


def test_the_source_of_the_previous_data_set_is_refused(project: Path, fake: FakeFlickr) -> None:
    data = zipped(project / "own.zip", {"ants/1.jpg": b"a", "bees/1.jpg": b"b"}).read_bytes()
    url = fake.serve("own.zip", data)
    folder = write_dataset(project, 'kind = "archive"', f'url = "{url}"', ANTS_AND_BEES)
    source = str(write_photos(project / "photos"))
    assert refusal(folder, source) == (
        f"{source} has other classes than {folder}/dataset.toml lists (cat, dog instead of ants, "
        "bees): set -S dataset.source=datasets for the images that belong to this data set, or -S "
        "dataset.name=images for your own"
    )
    run(folder)
    assert set(shards.columns(project / "raw", ["label"])["label"].to_pylist()) == {"ants", "bees"}


@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.parametrize(
    ("classes", "difference"),
    [
        ('["cat"]', "also dog"),
        ('["cat", "dog", "eel"]', "no image of eel"),
        ('["Cat", "dog"]', "cat instead of Cat"),
        ('["cats", "dogs"]', "cat, dog instead of cats, dogs"),
    ],
)
def test_files_of_other_classes_are_refused_before_any_is_read(
    project: Path, archived: bool, classes: str, difference: str
) -> None:
    source = zipped(project / "a.zip") if archived else write_photos(project / "photos")
    folder = write_dataset(project, 'kind = "folder"', f"classes = {classes}")
    assert f" lists ({difference}): set -S dataset.source=datasets" in refusal(folder, str(source))


def test_a_list_of_other_classes_is_refused_before_any_photograph_is_fetched(
    project: Path, fake: FakeFlickr
) -> None:
    folder = write_dataset(project, 'kind = "urls"', CATS_AND_DOGS)
    source = photo_list(project, fake, "car", "bicycle")
    assert "(bicycle, car instead of cat, dog)" in refusal(folder, source)
    assert fake.requests == []


def test_a_search_refuses_photographs_of_other_classes(project: Path, fake: FakeFlickr) -> None:
    folder = write_dataset(project, *FLICKR)
    source = str(write_photos(project / "photos"))
    assert "(cat, dog instead of bicycle, car)" in refusal(folder, source)
    (folder / "photos.csv").write_text(Path(photo_list(project, fake, "car")).read_text())
    assert refusal(folder, AS_DESCRIBED).endswith("correct the source, or `classes` there")


def test_a_class_of_which_nothing_could_be_fetched_is_refused(
    project: Path, fake: FakeFlickr
) -> None:
    folder = write_dataset(project, 'kind = "urls"', 'classes = ["car", "bicycle"]')
    fake.removed.add(CARS[1].id)
    source = photo_list(project, fake, "car", "bicycle")
    with pytest.raises(PipelineError, match=r"\(no image of bicycle\)"):
        run(folder, source)
    assert not Path("raw").exists()
    assert [row["reason"] for row in read_skipped()] == ["gone"]


def test_a_class_whose_files_are_all_too_large_is_refused(project: Path) -> None:
    source = write_photos(project / "photos")
    (source / "dog/1.jpg").write_bytes(bytes(1_000_001))
    folder = write_dataset(project, 'kind = "folder"', CATS_AND_DOGS)
    assert "(no image of dog)" in refusal(folder, str(source))


def test_records_of_a_part_of_the_classes_are_refused(project: Path) -> None:
    source = zipped(project / "a.zip", {"data_batch_1.bin": bytes(3073)})
    names = ", ".join(f'"{name}"' for name in CLASSES)
    folder = write_dataset(
        project,
        'kind = "archive"',
        'url = "http://a/b"',
        'records = "cifar10"',
        f"classes = [{names}]",
    )
    assert "(no image of automobile, bird, cat, deer, dog, 4 more)" in refusal(folder, str(source))


@pytest.mark.parametrize(
    "lines", [['kind = "digits"'], ['kind = "sample"', "images_per_class = 10", "seed = 1"]]
)
def test_drawn_images_of_other_classes_are_refused(project: Path, lines: list[str]) -> None:
    folder = write_dataset(project, *lines, ANTS_AND_BEES)
    assert "other classes" in refusal(folder, AS_DESCRIBED)


def test_labels_of_dataset_toml_rename_the_classes_of_every_source(
    project: Path, fake: FakeFlickr
) -> None:
    folder = write_dataset(
        project,
        'kind = "urls"',
        'classes = ["Katze", "Hund"]',
        "[labels]",
        'cat = "Katze"',
        'dog = "Hund"',
    )
    for source in (
        str(write_photos(project / "photos")),
        str(zipped(project / "a.zip")),
        photo_list(project, fake, "dog", "cat"),
    ):
        read = images(folder, source, OPEN)
        assert {image.label for image in read} == {"Katze", "Hund"}
    photos = images(folder, str(project / "photos"))
    assert [image.name for image in photos] == ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]


# Images that are not those of the data set


def deviation_of(folder: Path, source: str, params: AcquireParams = PARAMS) -> str:
    with dispatch.open_source(folder, source, params) as acquired:
        return acquired.deviation


def test_an_archive_with_another_digest_or_size_deviates(project: Path) -> None:
    archive = zipped(project / "a.zip")
    data = archive.read_bytes()
    sha256, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()
    toml = write_dataset(project) / "dataset.toml"
    start = 'description = "d"\nkind = "archive"\nurl = "http://a/b"\n'
    zeros = {"sha256": "0" * 64, "md5": "0" * 32}
    for lines, expected in (
        (f'sha256 = "{sha256}"', ""),
        (f'md5 = "{md5}"\nsize = {len(data)}', ""),
        (f'sha256 = "{zeros["sha256"]}"', f"has sha256 {sha256}, but dataset.toml says 000"),
        (f'md5 = "{zeros["md5"]}"', f"has md5 {md5}, but dataset.toml says 000"),
        (f'md5 = "{md5}"\nsize = 5', f"has {len(data)} bytes, but dataset.toml says 5"),
        (f"size = {len(data)}", "is not the archive that dataset.toml names"),
        ("", "is not the archive that dataset.toml names"),
    ):
        toml.write_text(start + lines)
        deviation = deviation_of(toml.parent, str(archive))
        assert deviation.startswith(f"a.zip {expected}" if expected else ""), lines
        assert bool(deviation) == bool(expected), lines


@pytest.mark.parametrize(
    ("line", "difference"),
    [
        ("size = 5", " bytes, but dataset.toml says 5: it is damaged, or was replaced"),
        (f'md5 = "{"0" * 32}"', "but dataset.toml says 000"),
        (f'sha256 = "{"0" * 64}"', "but dataset.toml says 000"),
    ],
)
def test_an_archive_beside_dataset_toml_must_be_as_pinned(
    project: Path, line: str, difference: str
) -> None:
    folder = write_dataset(project, 'kind = "archive"', 'path = "photos.zip"', line)
    zipped(folder / "photos.zip")
    message = refusal(folder, AS_DESCRIBED)
    assert message.startswith(f"{folder}/photos.zip has ")
    assert difference in message


def test_a_described_folder_has_no_checksum(project: Path) -> None:
    folder = write_dataset(project, 'kind = "archive"', 'path = "photos"', "size = 5")
    write_photos(folder / "photos")
    assert refusal(folder, AS_DESCRIBED) == (
        f"{folder}/photos is a folder, but size, sha256 and md5 in dataset.toml are of an archive: "
        "leave them out, or name the archive"
    )


def test_a_pin_has_the_new_names_of_classes(project: Path, fake: FakeFlickr) -> None:
    labels = 'labels = {car = "bicycle", bicycle = "car"}'
    folder = write_dataset(project, 'kind = "urls"', labels)
    write_list(
        folder / "photos.csv",
        {"id": "7", "url": url_of(fake, 0), "label": "car"},
        {"id": "8", "url": url_of(fake, 1), "label": "bicycle"},
    )
    assert [image.label for image in images(folder, params=OPEN)] == ["car", "bicycle"]


def test_a_folder_in_place_of_an_archive_deviates(project: Path) -> None:
    folder = write_dataset(project, 'kind = "archive"', 'url = "http://a/b"', f'md5 = "{"0" * 32}"')
    source = write_photos(project / "photos")
    expected = "photos is not the archive that dataset.toml names"
    assert deviation_of(folder, str(source)) == expected


@pytest.mark.parametrize(
    "lines", [['kind = "folder"', 'path = "p"'], ['kind = "urls"'], FLICKR], ids=lambda x: x[0]
)
def test_any_other_source_than_the_one_of_dataset_toml_deviates(
    project: Path, fake: FakeFlickr, lines: list[str]
) -> None:
    folder = write_dataset(project, *lines)
    source = str(write_photos(project / "photos"))
    assert deviation_of(folder, source).startswith("photos is not ")
    assert deviation_of(folder, AS_DESCRIBED) == ""


def test_the_named_source_by_its_path_does_not_deviate(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"', 'path = "p"')
    write_photos(folder / "p")
    assert deviation_of(folder, str(folder / "p")) == ""
    assert deviation_of(folder, str(folder.parent / "mine/../mine/p")) == ""
    (folder / "dataset.toml").write_text(
        'description = "d"\nkind = "archive"\npath = "a.zip"\nsize = 5\n'
    )
    archive = zipped(folder / "a.zip")
    assert deviation_of(folder, str(archive)).endswith(" bytes, but dataset.toml says 5")


def test_a_source_that_dataset_toml_leaves_open_does_not_deviate(project: Path) -> None:
    folder = write_dataset(project, 'kind = "folder"')
    assert deviation_of(folder, str(write_photos(project / "photos"))) == ""


def test_a_deviation_is_printed_and_stored_and_takes_no_licence(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(project / "a.zip")
    folder = write_dataset(
        project, 'kind = "archive"', 'url = "http://a/b"', "size = 5", 'licence = "CC0 1.0"'
    )
    run(folder, str(archive))
    size = archive.stat().st_size
    deviation = f"a.zip has {size} bytes, but dataset.toml says 5"
    assert capsys.readouterr().out.endswith(f"left out: none; not as described: {deviation}\n")
    assert shards.read_deviation(Path("raw")) == deviation
    assert set(shards.columns(project / "raw", ["licence"])["licence"].to_pylist()) == {None}


# Class names in Unicode


def test_a_zip_with_a_folder_in_two_unicode_forms_has_one_class(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["cafe\u0301/1.jpg", "caf\u00e9/2.jpg", "tea/1.jpg"]
    source = zipped(project / "a.zip", {name: name.encode() for name in names})
    run(write_dataset(project, 'kind = "folder"'), str(source))
    table = shards.columns(project / "raw", ["name", "label"]).to_pydict()
    assert dict(zip(table["name"], table["label"], strict=True)) == dict(
        zip(names, ["caf\u00e9", "caf\u00e9", "tea"], strict=True)
    )
    assert "acquire: caf\u00e9 is written in 2 Unicode forms: one class\n" in (
        capsys.readouterr().out
    )


def test_two_unicode_forms_in_dataset_toml_a_list_and_a_folder_are_one_class(
    project: Path, fake: FakeFlickr
) -> None:
    folder = write_dataset(project, 'kind = "urls"', 'classes = ["cafe\u0301", "tea"]')
    write_list(
        folder / "urls.csv",
        {"url": url_of(fake, 0), "label": "caf\u00e9"},
        {"url": url_of(fake, 1), "label": "cafe\u0301"},
        {"url": url_of(fake, 2), "label": "tea"},
    )
    assert [image.label for image in images(folder, params=OPEN)] == [
        "caf\u00e9",
        "caf\u00e9",
        "tea",
    ]
    source = project / "photos"
    for name in ("cafe\u0301/1.jpg", "tea/1.jpg"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_bytes(b"x")
    assert [image.label for image in images(folder, str(source))] == ["caf\u00e9", "tea"]


def test_a_search_labels_in_the_composed_form(project: Path, fake: FakeFlickr) -> None:
    lines = [line.replace("classes.car", 'classes."ca\u0301r"') for line in FLICKR]
    labels = [image.label for image in images(write_dataset(project, *lines), params=OPEN)]
    assert labels == ["c\u00e1r"] * 9 + ["bicycle"] * 9


def test_classes_that_look_alike_are_refused(project: Path) -> None:
    source = zipped(project / "a.zip", {"cat/1.jpg": b"a", "Cat/2.jpg": b"b", "dog/1.jpg": b"c"})
    folder = write_dataset(project, 'kind = "folder"')
    message = refusal(folder, str(source))
    assert message.startswith(f'{source} has two classes that differ only in case, "Cat" and "cat"')
    toml = folder / "dataset.toml"
    text = toml.read_text()
    toml.write_text(f'{text}\n[labels]\n"Cat" = "cat"\n')
    assert {image.label for image in images(folder, str(source))} == {"cat", "dog"}
    toml.write_text(f'{text}\nclasses = ["Cat", "cat", "dog"]\n')
    assert {image.label for image in images(folder, str(source))} == {"Cat", "cat", "dog"}
