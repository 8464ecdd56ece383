from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import UrlsDataset
from pipeline.stages.acquire.layouts.url_table import has_urls, read_url_table
from pipeline.stages.acquire.photo_list import Photo

DATASET = UrlsDataset(kind="urls", description="d")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_columns_have_common_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "image_id,Image URL,breed,subset,photographer,width",
        "7,http://a/7.jpg,pug,valid,Ann,100",
        ",http://a/8.jpg,dachshund,,,",
    )
    assert has_urls(path)
    assert list(read_url_table(path, DATASET)) == [
        Photo(id="7", url="http://a/7.jpg", label="pug", split="val", owner="Ann"),
        Photo(url="http://a/8.jpg", label="dachshund"),
    ]


def test_json_lines_and_a_given_column(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", '{"url": "http://a/1", "kind": "cat", "label": "x"}')
    dataset = DATASET.model_copy(update={"label_column": "kind"})
    assert list(read_url_table(path, dataset)) == [Photo(url="http://a/1", label="cat")]


def test_urls_csv_keeps_its_strict_rules(tmp_path: Path) -> None:
    path = write(tmp_path / "urls.csv", "url,label,split", "http://a/1,cat,valid")
    with pytest.raises(PipelineError, match=r"urls\.csv, line 2: split: Input should be 'train'"):
        list(read_url_table(path, DATASET))


@pytest.mark.parametrize(
    "lines",
    [
        ("url;label", "http://a/1;cat"),
        ("url\tlabel", "http://a/1\tcat"),
        ("sep=;", "url;label", "http://a/1;cat"),
        ("sep=,", "url,label", "http://a/1,cat"),
    ],
)
def test_urls_csv_may_have_any_separator(tmp_path: Path, lines: tuple[str, ...]) -> None:
    path = write(tmp_path / "urls.csv", *lines)
    assert has_urls(path)
    assert list(read_url_table(path, DATASET)) == [Photo(url="http://a/1", label="cat")]


def test_splits_of_dataset_toml_apply_to_urls_csv_too(tmp_path: Path) -> None:
    dataset = UrlsDataset(kind="urls", description="d", splits={"Fold1": "train"})
    path = write(tmp_path / "urls.csv", "url,label,split", "http://a/1,cat,fold1")
    assert list(read_url_table(path, dataset)) == [
        Photo(url="http://a/1", label="cat", split="train")
    ]
    write(path, "url,label", "http://a/1,cat")
    with pytest.raises(PipelineError, match=r"no column of splits, so splits in dataset"):
        list(read_url_table(path, dataset))


def test_whole_numbers_have_no_fraction(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "link,label", "http://a/1,1.0", "http://a/2,0")
    assert [photo.label for photo in read_url_table(path, DATASET)] == ["1", "0"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["url,foo", "http://a,b"],
            "lacks a column of labels by a common name: it has url, foo; say",
        ),
        (["a,b", "c,d"], "lacks a column of URLs by a common name: it has a, b"),
        (["link,label", "http://a,"], "row 1: label is missing"),
        (["link,label,sha256", "http://a,b,c"], "row 1: sha256: String should match pattern"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write(tmp_path / "t.csv", *lines)
    with pytest.raises(PipelineError) as caught:
        list(read_url_table(path, DATASET))
    assert message in str(caught.value)
