from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.core.errors import PipelineError
from pipeline.datasets import dataset_toml
from tests import ROOT


def write_dataset(folder: Path, text: str, name: str = "mine") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "dataset.toml").write_text(text)
    return folder / name


def error_of(folder: Path, text: str) -> str:
    path = write_dataset(folder, text)
    with pytest.raises(PipelineError) as caught:
        dataset_toml.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path / 'dataset.toml'}")
    return message.removeprefix(f"{path / 'dataset.toml'}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'kind = "sample"\ndescription = "d"\nimages_per_class = 10\nseed = 0',
            dataset_toml.SampleDataset(kind="sample", description="d", images_per_class=10, seed=0),
        ),
        (
            'kind = "digits"\ndescription = "d"\nlicence = "CC0-1.0"',
            dataset_toml.DigitsDataset(kind="digits", description="d", licence="CC0-1.0"),
        ),
        (
            'kind = "folder"\ndescription = "d"\npath = "photos"',
            dataset_toml.FolderDataset(kind="folder", description="d", path="photos"),
        ),
        (
            'kind = "archive"\ndescription = "d"\nurl = "https://a/b.zip"\nmd5 = "'
            + "0" * 32
            + '"',
            dataset_toml.ArchiveDataset(
                kind="archive", description="d", url="https://a/b.zip", md5="0" * 32
            ),
        ),
        (
            'kind = "archive"\ndescription = "d"\npath = "a.tgz"\nrecords = "cifar10"',
            dataset_toml.ArchiveDataset(
                kind="archive", description="d", path="a.tgz", records="cifar10"
            ),
        ),
        (
            'kind = "urls"\ndescription = "d"',
            dataset_toml.UrlsDataset(kind="urls", description="d"),
        ),
        (
            'kind = "urls"\ndescription = "d"\npath = "list.csv"',
            dataset_toml.UrlsDataset(kind="urls", description="d", path="list.csv"),
        ),
        (
            """kind = "flickr"
            description = "d"
            seed = 7
            licences = ["CC BY 2.0", "CC0 1.0"]
            sizes = ["c", "z"]
            uploaded_after = 2010-01-31
            uploaded_before = 2020-12-01
            wanted = { train = 10, val = 0, test = 5 }
            classes.car = { text = "car" }
            classes.bicycle = { tags = ["bicycle", "bike"], tag_mode = "any" }
            """,
            dataset_toml.FlickrDataset(
                kind="flickr",
                description="d",
                seed=7,
                licences=("CC BY 2.0", "CC0 1.0"),
                sizes=("c", "z"),
                uploaded_after=date(2010, 1, 31),
                uploaded_before=date(2020, 12, 1),
                wanted={"train": 10, "val": 0, "test": 5},
                classes={
                    "car": dataset_toml.SearchTerms(text="car"),
                    "bicycle": dataset_toml.SearchTerms(tags=("bicycle", "bike"), tag_mode="any"),
                },
            ),
        ),
    ],
    ids=["sample", "digits", "folder", "archive", "records", "urls", "urls elsewhere", "flickr"],
)
def test_every_kind_is_read(tmp_path: Path, text: str, expected: dataset_toml.Dataset) -> None:
    assert dataset_toml.load(write_dataset(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", {"train", "val", "test"}),
        ('[splits]\nval = "test"', {"test"}),
        ("splits = {}", set()),
    ],
)
def test_splits_have_defaults(tmp_path: Path, lines: str, expected: set[str]) -> None:
    dataset = dataset_toml.load(
        write_dataset(tmp_path, f'kind = "folder"\ndescription = "d"\n{lines}')
    )
    assert isinstance(dataset, dataset_toml.FolderDataset)
    assert set(dataset.splits.values()) == expected


def test_names_of_splits_are_compared_in_lower_case(tmp_path: Path) -> None:
    text = 'kind = "folder"\ndescription = "d"\nsplits = {Fold1 = "train"}'
    dataset = dataset_toml.load(write_dataset(tmp_path, text))
    assert isinstance(dataset, dataset_toml.FolderDataset)
    assert dataset.own_splits == {"fold1": "train"}
    assert dataset_toml.FolderDataset(kind="folder", description="d").own_splits == {}


SHIPPED = sorted(ROOT.glob("datasets/*/dataset.toml"))
FOLDER = 'kind = "folder"\ndescription = "d"\n'
ARCHIVE = 'kind = "archive"\ndescription = "d"\n'
FLICKR = """kind = "flickr"
description = "d"
seed = 1
wanted = { train = 1 }
classes.car.text = "car"
"""
SAMPLE = 'kind = "sample"\ndescription = "d"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            FOLDER + "pth = 'x'",
            ": pth: no such key: did you mean path? there are classes",
        ),
        (FOLDER + "exclude = ['x']", ": exclude: no such key: there are classes, description"),
        (
            FOLDER + "splits = {Train = 'train', train = 'val'}",
            ": splits: two names of splits differ only in case",
        ),
        ('kind = "folder"', ": description: Field required"),
        (FOLDER + "path = 3", ": path: Input should be a valid string"),
        (FOLDER + '[splits]\nholdout = "hold"', ": splits.holdout: Input should be 'train', 'val'"),
        (ARCHIVE, ": an archive has either a path or a url"),
        (ARCHIVE + "path = 'a'\nurl = 'b'", ": an archive has either a path or a url"),
        (ARCHIVE + "url = 'b'\nsha256 = 'ABC'", ": sha256: String should match pattern"),
        (ARCHIVE + "path = 'https://h/a.zip'", ": path: 'https://h/a.zip' is a URL, of which only"),
        (FOLDER + "path = 'HTTP://h/photos'", ": path: 'HTTP://h/photos' is a URL, of which only"),
        (ARCHIVE + "path = 'a'\nsize = 0", ": size: Input should be greater than 0"),
        (ARCHIVE + "path = 'a'\nrecords = 'mnist'", ": records: Input should be 'cifar10'"),
        (FLICKR + "licences = ['CC BY']", ": licences.0: 'CC BY' is none of All rights reserved, "),
        (FLICKR + "sizes = ['c', 'x']", ": sizes.1: 'x' is none of sq, t, q, s, n, w, m, z, c"),
        (FLICKR + "sizes = []", ": sizes: Tuple should have at least 1 item"),
        (
            FLICKR + "classes.dog = {}",
            ": classes.dog: a class needs a text or tags to search for",
        ),
        (FLICKR + "classes.dog.tags = []", ": classes.dog: a class needs a text or tags to"),
        (
            FLICKR + "classes.dog.txt = 'x'",
            ": classes.dog.txt: no such key: did you mean text?",
        ),
        (
            FLICKR + "classes.dog = {text = 'dog', tag_mode = 'any'}",
            ": classes.dog: tag_mode = 'any' has no effect without tags",
        ),
        (
            FLICKR + "uploaded_after = 2020-01-01\nuploaded_before = 2019-01-01",
            ": no date is after 2020-01-01 and before 2019-01-01",
        ),
        (FLICKR + "classes.car.tag_mode = 'some'", ": classes.car.tag_mode: Input should be 'all'"),
        (FLICKR.replace("train = 1", "holdout = 1"), ": wanted.holdout.[key]: Input should be 't"),
        (FLICKR.replace("train = 1", "train = -1"), ": wanted.train: Input should be greater than"),
        (FLICKR.replace("train = 1", ""), ": wanted: Dictionary should have at least 1 item"),
        (FLICKR.replace("seed = 1", "seed = -1"), ": seed: Input should be greater than or equal"),
        (FLICKR.replace("seed = 1", ""), ": seed: Field required"),
        (FLICKR.replace('classes.car.text = "car"', ""), ": classes: Field required"),
        (FLICKR.replace('classes.car.text = "car"', "classes = {}"), ": classes: Dictionary shoul"),
        (FLICKR + "uploaded_after = '2010-01-01'", ": uploaded_after: Input should be a valid da"),
        (SAMPLE + "images_per_class = 9\nseed = 1", ": images_per_class: Input should be greater"),
        (SAMPLE + "images_per_class = 10.0\nseed = 1", ": images_per_class: Input should be a val"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    assert error_of(tmp_path, text).startswith(message)


@pytest.mark.parametrize("text", ['description = "d"', 'kind = "web"\ndescription = "d"'])
def test_a_kind_that_is_missing_or_unknown_lists_the_kinds(tmp_path: Path, text: str) -> None:
    message = error_of(tmp_path, text)
    assert "kind" in message
    assert "'folder'" in message or text.startswith("description")


@pytest.mark.parametrize("text", ["kind = ", "kind = 'a'\nkind = 'b'", "[splits"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    assert error_of(tmp_path, text).startswith(" is not TOML: ")


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, "")
    (path / "dataset.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match=r"dataset\.toml is not TOML"):
        dataset_toml.load(path)


def test_a_missing_dataset_toml_lists_the_others_and_mentions_git(tmp_path: Path) -> None:
    for name in ("zoo", "birds"):
        write_dataset(tmp_path, FOLDER, name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError) as caught:
        dataset_toml.load(tmp_path / "empty")
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}/empty/dataset.toml is missing (there are: birds, zoo): create"
    )
    assert "create it and commit it" in message


def test_a_dataset_is_frozen() -> None:
    described = dataset_toml.DigitsDataset(kind="digits", description="d")
    with pytest.raises(ValidationError, match="frozen"):
        described.licence = "mine"


def test_the_pin_is_beside_dataset_toml() -> None:
    assert dataset_toml.pin_path(Path("datasets/mine")) == Path("datasets/mine/photos.csv")


@pytest.mark.parametrize("path", SHIPPED, ids=[path.parent.name for path in SHIPPED])
def test_every_shipped_dataset_toml_is_valid(path: Path) -> None:
    assert dataset_toml.load(path.parent).description.endswith(".")


def test_wanting_no_photographs_is_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, FLICKR.replace("train = 1", "train = 0, test = 0"))
    assert message == ": wanted is 0 for every split"
