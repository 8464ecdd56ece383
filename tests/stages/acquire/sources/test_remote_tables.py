import io
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.stages.acquire.layouts.url_table import has_urls
from pipeline.stages.acquire.sources.remote_tables import name_table

pytestmark = pytest.mark.usefixtures("root")

CSV = b"url,label\nhttp://a/1.jpg,cat\n"
TSV = CSV.replace(b",", b"\t")
JSON = b' {"url": "http://a/1.jpg", "label": "cat"}\n'
UTF16 = b"\xff\xfe" + TSV.decode().encode("utf-16-le")


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"url": ["http://a/1.jpg"], "label": ["cat"]}), file)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("list.csv", CSV)
    return file.getvalue()


def stored(root: Path, data: bytes, name: str = "0a1b") -> Path:
    path = root / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("address", "data", "name"),
    [
        ("https://h/list.csv", CSV, "list.csv"),
        ("https://h/LIST.TSV?token=a/b.zip#top", TSV, "LIST.tsv"),
        ("https://h/a/train-1.parquet?download=true", parquet(), "train-1.parquet"),
        ("https://h/a%20b.jsonl", JSON, "a_20b.jsonl"),
        ("https://h/export?format=csv", CSV, "export.csv"),
        ("https://h/get.php?file=list.csv", TSV, "get.csv"),
        ("https://h/export", UTF16, "export.csv"),
        ("https://h/labels.txt", TSV, "labels.csv"),
        ("https://h/", JSON, "table.jsonl"),
        ("https://h/v1", parquet(), "v1.parquet"),
        ("https://h/" + "a" * 300, CSV, "a" * 80 + ".csv"),
        ("s3://bucket/lists/mine", CSV, "mine.csv"),
    ],
)
def test_a_table_has_the_suffix_of_its_address_or_content(
    root: Path, address: str, data: bytes, name: str
) -> None:
    path = name_table(stored(root, data), address)
    assert path.name == name
    assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]
    assert has_urls(path)
    assert name_table(root / "0a1b", address) == path


@pytest.mark.parametrize(
    ("address", "data", "name"),
    [
        ("https://h/photos.zip", zipped(), "0a1b"),
        ("https://h/download?id=1", zipped(), "0a1b"),
        ("https://h/photos.zip", b"no archive", "0a1b"),  # reported as a damaged one
        ("https://h/1.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "0a1b"),
        ("s3://bucket/list.csv", CSV, "list.csv"),
    ],
)
def test_other_files_and_named_tables_stay(
    root: Path, address: str, data: bytes, name: str
) -> None:
    path = stored(root, data, name)
    assert name_table(path, address) == path


def test_another_version_has_another_link(root: Path) -> None:
    first = name_table(stored(root, CSV), "https://h/list.csv")
    second = name_table(stored(root, TSV, "2c3d"), "https://h/list.csv")
    assert (first.read_bytes(), second.read_bytes()) == (CSV, TSV)
