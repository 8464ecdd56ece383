import json
import tracemalloc
from collections.abc import Mapping

import pytest

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, FileFacts
from pipeline.stages.acquire.layouts.table_files import MAX_LINE, open_text_table
from pipeline.stages.acquire.layouts.table_limits import MAX_CELL
from tests.builders.listings import labels_of, listing_of, reasons_of

DATASET = FolderDataset(kind="folder", description="d")
FILES = {f"train/{stem}.jpg": b"x" for stem in ("a1", "b2", "c3", "d4")}
LABELS = ("cat", "dog", "cat", "dog")


def labels(content: Mapping[str, bytes], **keys: object) -> dict[str, tuple[str, str | None]]:
    files = listing_of(content)
    return labels_of(choose_labels(files, DATASET.model_copy(update=keys), "set"), files)


def error_of(content: Mapping[str, bytes], **keys: object) -> str:
    with pytest.raises(PipelineError) as caught:
        labels(content, **keys)
    return str(caught.value)


def csv(*rows: str) -> bytes:
    return "\n".join(rows).encode()


def rows_of(form: str, header: str, separator: str = ",") -> bytes:
    cells = [form.format(name[6:-4]) for name in FILES]
    lines = [header, *map(separator.join, zip(cells, LABELS, strict=True))]
    return csv(*lines)


@pytest.mark.parametrize(
    "name", ["train.csv", "labels.csv", "train/metadata.csv", "annotations/x.csv"]
)
@pytest.mark.parametrize("form", ["{}", "{}.jpg", "train/{}.jpg", "train/{}", "{}.png", "./{}.jpg"])
def test_kaggles_table_names_files_in_any_way(name: str, form: str) -> None:
    found = labels({**FILES, name: rows_of(form, "id,breed")})
    assert [label for label, _ in found.values()] == list(LABELS)
    assert set(found) == set(FILES)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["Image ID{}Class", "file_name{}label", "img{}Target"])
def test_common_names_and_separators(separator: str, header: str) -> None:
    table = rows_of("{}.jpg", header.format(separator), separator)
    assert len(labels({**FILES, "t.csv": table})) == 4
    assert len(labels({**FILES, "t.tsv": b"\xef\xbb\xbf" + table})) == 4


def test_json_lines() -> None:
    records = [
        {"file_name": name, "meta": {"n": 1}, "label": label}
        for name, label in zip(FILES, LABELS, strict=True)
    ]
    data = "\n\n".join(map(json.dumps, records)).encode()
    assert len(labels({**FILES, "metadata.jsonl": data})) == 4


def test_a_table_of_files_beside_it() -> None:
    """Hugging Face's imagefolder: a metadata.csv in each folder of a split."""
    content = {
        **{f"{split}/{n}.jpg": b"x" for split in ("train", "test") for n in (1, 2)},
        "train/metadata.csv": csv("file_name,label", "1.jpg,cat", "2.jpg,dog"),
        "test/metadata.csv": csv("file_name,label", "1.jpg,dog", "2.jpg,cat"),
    }
    assert labels(content) == {
        "train/1.jpg": ("cat", "train"),
        "train/2.jpg": ("dog", "train"),
        "test/1.jpg": ("dog", "test"),
        "test/2.jpg": ("cat", "test"),
    }


def test_kaggles_test_set_without_labels_is_left_out() -> None:
    content = {
        **{f"train/{n}.jpg": b"x" for n in (1, 2)},
        **{f"test/{n}.jpg": b"x" for n in (1, 2)},
        "train.csv": csv("id,label", "1,cat", "2,dog"),
        "test.csv": csv("id", "1", "2"),
        "sample_submission.csv": csv("id,label", "1,cat", "2,cat"),
    }
    files = listing_of(content)
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files) == {
        "train/1.jpg": ("cat", "train"),
        "train/2.jpg": ("dog", "train"),
    }
    assert reasons_of(read, files)["test/1.jpg"] == "unlabelled"
    assert read.origin == "the column 'label' of train.csv (files by its column 'id')"


def test_optional_columns() -> None:
    table = csv(
        "file,label,Split,patient_id,author,license,sha256",
        "a1,cat,valid,p1,Ann,CC0-1.0,",
        "b2,dog,TRAIN,,,,abc",
    )
    files = listing_of({**FILES, "t.csv": table})
    facts = list(choose_labels(files, DATASET, "set").facts(files))
    assert facts[:2] == [
        FileFacts("cat", "val", "p1", "Ann", "CC0-1.0", None),
        FileFacts("dog", "train", None, None, None, "abc"),
    ]


def test_a_table_wins_over_folders_that_say_the_same() -> None:
    content = {"Cat/1.jpg": b"", "Dog/2.jpg": b"", "t.csv": csv("id,label", "1,n02", "2,n03")}
    assert labels(content) == {"Cat/1.jpg": ("n02", None), "Dog/2.jpg": ("n03", None)}


def test_a_table_and_folders_that_disagree_are_refused_with_both_readings() -> None:
    names = ["a/1", "a/2", "b/3", "b/4"]
    table = csv("id,label", "1,cat", "2,dog", "3,cat", "4,dog")
    content = {**{f"{name}.jpg": b"" for name in names}, "t.csv": table}
    assert error_of(content).endswith(
        "Write pattern = '{label}/*' or label_column = 'label' in dataset.toml"
    )
    assert labels(content, pattern="{label}/*")["a/1.jpg"] == ("a", None)
    assert labels(content, label_column="label")["a/1.jpg"] == ("cat", None)


def test_two_label_columns_are_refused_with_both_readings() -> None:
    rows = ["id,class,species", "a1,x,cat", "b2,x,dog", "c3,y,cat", "d4,y,dog"]
    content = {**FILES, "t.csv": csv(*rows)}
    with pytest.raises(AmbiguousLayoutError) as caught:
        labels(content)
    assert [reading.value for reading in caught.value.readings] == ["class", "species"]
    assert str(caught.value) == (
        "set: two columns of t.csv may have the classes: 2 classes (x, y), or 2 classes (cat, "
        "dog)? Write label_column = 'class' or label_column = 'species' in dataset.toml"
    )
    assert labels(content, label_column="species")["train/a1.jpg"] == ("cat", None)


def test_numbers_of_classes_give_way_to_their_names() -> None:
    rows = ["id,label,class_name", "a1,0,cat", "b2,1,dog", "c3,0,cat", "d4,1,dog"]
    assert labels({**FILES, "t.csv": csv(*rows)})["train/a1.jpg"] == ("cat", None)


def test_two_tables_are_refused_with_both_readings() -> None:
    content = {
        **FILES,
        "one.csv": rows_of("{}", "id,label"),
        "two.csv": rows_of("{}", "img,species"),
    }
    assert "table = 'one.csv' or table = 'two.csv'" in error_of(content)
    assert len(labels(content, table="two.csv")) == 4


def test_files_with_two_labels_and_without_rows_are_left_out() -> None:
    table = csv("id,label", "a1,cat", "b2,dog", "b2,cat", "c3,cat", "c3,cat", "d4,")
    files = listing_of({**FILES, "t.csv": table})
    read = choose_labels(files, DATASET, "set")
    assert set(labels_of(read, files)) == {"train/a1.jpg", "train/c3.jpg"}
    assert reasons_of(read, files) == {
        "train/b2.jpg": "two_classes",
        "train/d4.jpg": "unlabelled",
    }


def test_missing_files_are_listed() -> None:
    table = rows_of("{}", "id,label") + b"\nzz,cat"
    files = listing_of({**FILES, "t.csv": table})
    assert choose_labels(files, DATASET, "set").missing.to_pylist() == ["zz"]


@pytest.mark.parametrize(
    ("table", "keys", "message"),
    [
        (b"id,label\na1,cat\nb2", {}, "t.csv, line 3: it has 1 cells, but the first line 2"),
        (b"id,label\n" + b"x" * 200_000 + b",cat", {}, "field larger than field limit"),
        (b"id,id\n1,2", {}, "t.csv has the column 'id' twice"),
        (b"", {}, "t.csv is empty"),
        ("id,label\na1,cat".encode("utf-16"), {}, "t.csv is not CSV in UTF-8: save it as such"),
        (b"id,label\nb\0,cat", {}, "t.csv is not CSV in UTF-8"),
        (b"id,label\na1,\xff", {}, "t.csv is not CSV in UTF-8 ('utf-8' codec"),
        (b'id,label\na1,"cat', {}, "t.csv, line 2 is not CSV in UTF-8 (unexpected end of data)"),
        (b"foo,bar,baz\na1,b,c", {}, "t.csv has the columns foo, bar, baz: say with label_column"),
        (b"id,label\na1,cat", {"label_column": "lable"}, "no column 'lable', which label_column"),
        (b"id,label\na1,cat", {"label_column": "lable"}, "did you mean 'label'?"),
        (
            b"id,label\nq,cat",
            {"label_column": "label"},
            "names none of its files, for instance 'q'",
        ),
        (b"id,label\na1,cat", {"table": "x.csv"}, "set: no table in it is x.csv"),
        (b"id,label,split\na1,cat,fold9", {}, "t.csv: the column 'split' has 'fold9', which is no"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(
    table: bytes, keys: dict[str, str], message: str
) -> None:
    assert message in error_of({**FILES, "t.csv": table}, **keys)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[1]", "t.jsonl, line 1 is not a JSON object"),
        (b'{"a": 1}\n{', "line 2 is not JSON"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b'{"a": "' + b"x" * MAX_LINE + b'"}', "line 1: longer than"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1 is not JSON"),
        (b"", "t.jsonl is empty"),
    ],
)
def test_bad_json_lines_are_refused_in_a_sentence(data: bytes, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        open_text_table("t.jsonl", data)
    assert message in str(caught.value)


def test_a_huge_text_in_json_is_refused() -> None:
    data = json.dumps({"a": "x" * (MAX_CELL + 1)}).encode()
    with pytest.raises(PipelineError, match="a cell of the column 'a' has 65537 bytes"):
        open_text_table("t.jsonl", data).read(["a"])


def test_a_name_of_several_files_is_refused() -> None:
    content = {"x/a.jpg": b"", "y/a.jpg": b"", "z/b.jpg": b"", "t.csv": b"id,label\na,c\nb,d"}
    assert "t.csv names 'a', and several files have this name" in error_of(content)
    content["t.csv"] = b"id,label\nx/a,c\nz/b,d"
    assert set(labels(content)) == {"x/a.jpg", "z/b.jpg"}


def test_the_memory_of_a_table_is_that_of_its_columns() -> None:
    """Less than 50 MiB for 100,000 images."""
    count = 20_000
    table = csv("id,label", *(f"{n:08d},{n % 10}" for n in range(count)))
    files = listing_of(
        {**dict.fromkeys([f"i/{n:08d}.jpg" for n in range(count)], b""), "t.csv": table}
    )
    tracemalloc.start()
    read = choose_labels(files, DATASET, "set")
    assert sum(isinstance(facts, FileFacts) for facts in read.facts(files)) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20 * count / 100_000 + 8 * 2**20
