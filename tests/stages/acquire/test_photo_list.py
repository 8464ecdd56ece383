import tempfile
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire import photo_list
from pipeline.stages.acquire.photo_list import COLUMNS, Photo
from pipeline.stages.acquire.raw_image import RawImage

URL = "https://example.org/a/1.jpg"
FULL = Photo(
    id="7",
    url=URL,
    label="cat",
    split="val",
    page="https://example.org/7",
    title='A "cat", 1',
    owner="Jo",
    group="jo@1",
    licence="CC BY 4.0",
    sha256="ab" * 32,
)


def write_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "urls.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(folder: Path, text: str | bytes) -> list[Photo]:
    return list(photo_list.read_photos(write_file(folder, text)))


def error_of(folder: Path, text: str | bytes) -> str:
    path = write_file(folder, text)
    with pytest.raises(PipelineError) as caught:
        list(photo_list.read_photos(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def cells(photo: Photo) -> list[str]:
    """As in a pin."""
    return [value or "" for value in photo.model_dump().values()]


def test_url_and_label_are_sufficient(tmp_path: Path) -> None:
    photos = read(tmp_path, f"url,label\n{URL},cat\nhttp://b/2,dog\n")
    assert photos == [Photo(url=URL, label="cat"), Photo(url="http://b/2", label="dog")]


def test_all_columns_are_read_in_any_order(tmp_path: Path) -> None:
    order = sorted(COLUMNS)
    path = tmp_path / "urls.csv"
    atomic.write_csv(path, order, [[FULL.model_dump()[column] for column in order]])
    assert list(photo_list.read_photos(path)) == [FULL]


def test_the_columns_of_a_pin_are_stable() -> None:
    """Pins are in git: a column may be added, but none renamed."""
    assert COLUMNS == (
        "id",
        "url",
        "label",
        "split",
        "page",
        "title",
        "owner",
        "group",
        "licence",
        "sha256",
    )


def test_an_empty_cell_is_none(tmp_path: Path) -> None:
    (photo,) = read(tmp_path, f"{','.join(COLUMNS)}\n,{URL},cat,,,,,,,\n")
    assert photo == Photo(url=URL, label="cat")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_any_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path, ends: str) -> None:
    text = ends.join(["\ufeffurl,label", f"{URL},cat", ""])
    assert read(tmp_path, text) == [Photo(url=URL, label="cat")]


def test_empty_lines_are_ignored(tmp_path: Path) -> None:
    assert len(read(tmp_path, f"url,label\n\n{URL},cat\n\n\n{URL},dog\n\n")) == 2


def test_a_last_line_needs_no_end(tmp_path: Path) -> None:
    assert read(tmp_path, f"url,label\n{URL},cat") == [Photo(url=URL, label="cat")]


def test_quoted_cells_may_contain_lines_commas_and_quotes(tmp_path: Path) -> None:
    text = f'url,label,title\n{URL},cat,"a, ""b""\nc"\n{URL},dog,d\n'
    assert [photo.title for photo in read(tmp_path, text)] == ['a, "b"\nc', "d"]


@pytest.mark.parametrize("title", ["'tis", "'90s", "'a' = 'b'", "it's", "''", "=1", "-2", "@me"])
def test_a_cell_that_a_user_wrote_is_read_as_it_is(tmp_path: Path, title: str) -> None:
    (photo,) = read(tmp_path, f"url,label,title\n{URL},cat,{title}\n")
    assert photo.title == title


def test_a_formula_that_a_spreadsheet_keeps_as_text_is_read_without_its_apostrophe(
    tmp_path: Path,
) -> None:
    (photo,) = read(tmp_path, f"url,label,title\n{URL},'-1,'=x\n")
    assert (photo.label, photo.title) == ("-1", "=x")


KNOWN = f": its first line may name {', '.join(COLUMNS)}; url and label are required"


@pytest.mark.parametrize(
    ("first_line", "message"),
    [
        ("url,label,author", " has an unknown column 'author'"),
        ("url,label,", " has an unknown column ''"),
        ("url;label", " has an unknown column 'url;label'"),
        (URL, f" has an unknown column '{URL}'"),
        ("label", " lacks the column 'url'"),
        ("url,title", " lacks the column 'label'"),
    ],
)
def test_columns_that_are_unknown_or_missing_are_named(
    tmp_path: Path, first_line: str, message: str
) -> None:
    assert error_of(tmp_path, f"{first_line}\n") == message + KNOWN


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    assert "'url'" in error_of(tmp_path, f"url,label,url\n{URL},cat,http://b/1.jpg\n")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert error_of(tmp_path, "") == " lacks the column 'label'" + KNOWN


def test_a_header_without_rows_gives_no_photos(tmp_path: Path) -> None:
    assert read(tmp_path, "url,label\n") == []


def test_counting_an_empty_list_is_an_error(tmp_path: Path) -> None:
    path = write_file(tmp_path, "url,label\n")
    with pytest.raises(PipelineError) as caught:
        photo_list.count_labels(path)
    assert str(caught.value) == f"{path} lists no photographs"


@pytest.mark.parametrize("number", [1, 50])
def test_photographs_are_counted(tmp_path: Path, number: int) -> None:
    path = write_file(tmp_path, "url,label,title\n" + f'{URL},cat,"a\nb"\n' * number)
    assert photo_list.count_labels(path).total() == number


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{URL},,", "label is missing"),
        (",cat,", "url is missing"),
        (f"{URL},cat,{'ab' * 31}", "sha256: String should match pattern '^[0-9a-f]{64}$'"),
        (f"{URL},cat,{'AB' * 32}", "sha256: String should match pattern '^[0-9a-f]{64}$'"),
        (URL, "label is missing"),
    ],
    ids=["label", "url", "short digest", "upper case", "too few cells"],
)
def test_an_invalid_row_is_reported_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    text = f"url,label,sha256\n{URL},cat,\n{row}\n{URL},cat,\n"
    assert error_of(tmp_path, text) == f", line 3: {message}"


def test_a_row_with_too_many_cells_is_reported_with_its_line(tmp_path: Path) -> None:
    message = error_of(tmp_path, f"url,label\n{URL},cat\n{URL},cat,black\n")
    assert message.startswith(", line 3: the row ")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    message = error_of(tmp_path, f"url,label,split\n{URL},cat,holdout\n")
    assert message == ", line 2: split: Input should be 'train', 'val' or 'test'"


def test_line_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    text = f'url,label,title\n{URL},cat,"a\nb\nc"\n\n{URL},,\n'
    assert error_of(tmp_path, text) == ", line 6: label is missing"


@pytest.mark.parametrize(
    "data",
    [
        b"url,label\nhttp://a/1.jpg,caf\xe9\n",
        b'url,label\nhttp://a/1.jpg,"cat\n',
        b'url,label\nhttp://a/1.jpg,"cat"s\n',
        "url,label\nhttp://a/1.jpg,cat\n".encode("utf-16"),
        b"PK\x03\x04\x00\xff\xfe",
    ],
    ids=["latin-1", "open quote", "behind a quote", "utf-16", "zip"],
)
def test_a_file_that_is_not_csv_in_utf8_is_refused(tmp_path: Path, data: bytes) -> None:
    assert error_of(tmp_path, data).startswith(" is not a CSV file in UTF-8 (")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        next(photo_list.read_photos(tmp_path / "urls.csv"))
    assert str(caught.value) == f"{tmp_path}/urls.csv does not exist"


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    text = "url,label\n" + f"{URL},cat\n" * 3000 + "broken\n"
    assert len(list(islice(photo_list.read_photos(write_file(tmp_path, text)), 2000))) == 2000


@pytest.mark.parametrize(
    ("photo", "name"),
    [
        (Photo(url=URL, label="cat"), "cat/1.jpg"),
        (Photo(url=f"{URL}?size=c#top", label="cat"), "cat/1.jpg"),
        (Photo(url="https://example.org/a/", label="cat"), "cat/a"),
        (Photo(url="https://example.org/", label="cat"), "cat/unnamed"),
        (Photo(url="https://example.org", label="cat"), "cat/unnamed"),
        (Photo(url="not an address", label="cat"), "cat/not an address"),
        (Photo(id="7", url=URL, label="cat"), "cat/7"),
    ],
)
def test_a_name_has_the_label_and_the_id_or_the_end_of_the_url(photo: Photo, name: str) -> None:
    assert photo.name == name


def test_a_photo_with_an_invalid_url_has_a_name() -> None:
    assert Photo(url="http://[half/1.jpg", label="cat").name.startswith("cat/")


def test_an_image_has_all_columns_of_the_list() -> None:
    assert FULL.to_raw_image(b"x", "cd" * 32, "mine") == RawImage(
        name="cat/7",
        label="cat",
        data=b"x",
        split="val",
        group="jo@1",
        owner="Jo",
        title='A "cat", 1',
        licence="CC BY 4.0",
        url=URL,
        page_url="https://example.org/7",
        sha256="cd" * 32,
    )


def test_an_image_without_a_licence_has_that_of_the_data_set() -> None:
    assert Photo(url=URL, label="cat").to_raw_image(b"x", "cd" * 32, "mine").licence == "mine"


def test_a_photo_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FULL.label = "dog"


TEXT = st.text(min_size=1, max_size=12)
OPTIONAL_TEXT = st.none() | TEXT
PHOTO = st.builds(
    Photo,
    id=OPTIONAL_TEXT,
    url=TEXT,
    label=TEXT,
    split=st.sampled_from([None, "train", "val", "test"]),
    page=OPTIONAL_TEXT,
    title=OPTIONAL_TEXT,
    owner=OPTIONAL_TEXT,
    group=OPTIONAL_TEXT,
    licence=OPTIONAL_TEXT,
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@settings(derandomize=True, max_examples=60)
@given(st.lists(PHOTO, max_size=4))
@example([Photo(url=URL, label="cat", title="a\r\nb")])
@example([Photo(url=URL, label="cat", title="a\rb")])
@example([Photo(url=URL, label="cat", title="\0\x1b[31m\u202e\u2028\ufeff")])
@example([Photo(url=URL, label="cat", title='"=cmd()", \\')])
@example([Photo(url="=1", label="-1", title="'=1", owner="'@", group="\t=1", licence="a;+1")])
def test_a_pin_can_be_read_back(listed: list[Photo]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photos.csv")
        atomic.write_csv(path, COLUMNS, [cells(photo) for photo in listed])
        assert list(photo_list.read_photos(path)) == listed


def test_a_group_is_the_same_in_every_unicode_form(tmp_path: Path) -> None:
    """Or the photographs of one owner would be in two splits."""
    text = "url,label,group\nhttp://h/1,cat,caf\u00e9\nhttp://h/2,cat,cafe\u0301\n"
    assert {photo.group for photo in read(tmp_path, text)} == {"caf\u00e9"}
