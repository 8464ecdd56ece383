import json
import tracemalloc
import unicodedata
from collections.abc import Mapping

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
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
    labelled = labels({**FILES, name: rows_of(form, "id,breed")})
    assert [label for label, _ in labelled.values()] == list(LABELS)
    assert set(labelled) == set(FILES)


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


@pytest.mark.parametrize(
    "form",
    [
        {"file_name": "{0}", "label": {"name": "{1}", "id": 0}},
        {"image": {"path": "{0}"}, "label": "{1}"},
        {"image": {"path": "{0}", "size": [1, 2]}, "label": {"name": "{1}"}, "boxes": [{"x": 1}]},
    ],
)
def test_fields_of_objects_in_json_lines_are_columns(form: dict[str, object]) -> None:
    template = json.dumps(form)
    records = [
        template.replace("{0}", name).replace("{1}", label)
        for name, label in zip(FILES, LABELS, strict=True)
    ]
    labelled = labels({**FILES, "metadata.jsonl": "\n".join(records).encode()})
    assert [label for label, _ in labelled.values()] == list(LABELS)


@pytest.mark.parametrize("value", ['["cat"]', '[{"name": "cat"}]'])
@pytest.mark.parametrize("keys", [{}, {"label_column": "label"}, {"table": "t.jsonl"}])
def test_several_labels_in_a_row_are_refused(value: str, keys: dict[str, str]) -> None:
    records = "\n".join(f'{{"file_name": "{name}", "label": {value}, "w": 1}}' for name in FILES)
    message = error_of({**FILES, "t.jsonl": records.encode()}, **keys)
    assert "t.jsonl: the column 'label' has neither texts nor numbers: say with label_c" in message


def test_a_row_of_another_form_is_refused() -> None:
    lines = [f'{{"file_name": "{name}", "label": "cat"}}' for name in list(FILES) * 30]
    data = "\n".join([*lines, '{"file_name": "x", "label": [1]}']).encode()
    assert "t.jsonl: the column 'label' has neither texts nor numbers" in error_of(
        {**FILES, "t.jsonl": data}
    )


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


TEST_SET = {f"test/{stem}.jpg": b"x" for stem in ("e5", "f6")}


@pytest.mark.parametrize("keys", [{}, {"label_column": "label"}])
@pytest.mark.parametrize("columns", ["id,width", "id,label_width", "id"])
def test_the_table_of_a_test_set_without_labels_has_none(
    columns: str, keys: dict[str, str]
) -> None:
    cells = ",7" if "," in columns else ""
    content = {
        **FILES,
        **TEST_SET,
        "train.csv": rows_of("{}", "id,label"),
        "test.csv": csv(columns, f"e5{cells}", f"f6{cells}"),
    }
    files = listing_of(content)
    read = choose_labels(files, DATASET.model_copy(update=keys), "set")
    assert read.classes() == {"cat", "dog"}
    assert reasons_of(read, files) == dict.fromkeys(TEST_SET, "unlabelled") | {
        "test.csv": "other_kind"
    }
    if "," in columns and not keys:
        assert read.notes == (
            "test.csv has no column of labels by a common name and is left out, unless "
            "label_column names one",
        )


def test_two_only_other_columns_are_refused_with_both_readings() -> None:
    content = {
        **FILES,
        **TEST_SET,
        "train.csv": rows_of("{}", "id,animal"),
        "test.csv": csv("id,width", "e5,7", "f6,8"),
    }
    assert "table = 'train.csv' or table = 'test.csv'" in error_of(content)
    assert len(labels(content, table="train.csv")) == 4


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


@pytest.mark.parametrize("column", ["dx", "disease", "label_id", "Class ID"])
def test_less_common_names_of_labels(column: str) -> None:
    rows = [f"{name[6:-4]},{LABELS[n]},{n}" for n, name in enumerate(FILES)]
    labelled = labels({**FILES, "t.csv": csv(f"image_id,{column},age", *rows)})
    assert [label for label, _ in labelled.values()] == list(LABELS)


def test_a_label_of_a_common_name_comes_before_others() -> None:
    rows = ["id,label_id,dx,label", "a1,0,u,cat", "b2,1,v,dog", "c3,2,u,cat", "d4,3,w,dog"]
    assert labels({**FILES, "t.csv": csv(*rows)})["train/a1.jpg"] == ("cat", None)


def test_numbers_of_rows_are_no_labels() -> None:
    rows = ["id,label_id,w", "a1,0,1", "b2,1,2", "c3,2,3", "d4,3,4"]
    assert "no column is known for labels" in error_of({**FILES, "t.csv": csv(*rows)})


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (("1.0", "0.0", "", "0.0"), ["1", "0", "0"]),
        (("1", "0.0", "1.0", "0"), ["1", "0", "1", "0"]),
        (("1.0", "1.10", "1.0", "1.10"), ["1.0", "1.10", "1.0", "1.10"]),
    ],
)
def test_whole_numbers_with_a_fraction_are_the_same_classes(
    cells: tuple[str, ...], classes: list[str]
) -> None:
    rows = [f"{name[6:-4]},{cell}" for name, cell in zip(FILES, cells, strict=True)]
    labelled = labels({**FILES, "labels.csv": csv("id,label", *rows)})
    assert [label for label, _ in labelled.values()] == classes


@pytest.mark.parametrize("one", ["1", " 1", "1.0", "True", "true"])
def test_a_column_for_each_class(one: str) -> None:
    rows = ["image,MEL,NV,BCC", f"a1,{one},0,0", f"b2,0,{one},0", f"c3,0,0,{one}", f"d4,{one},0,0"]
    files = listing_of({**FILES, "t.csv": csv(*rows)})
    read = choose_labels(files, DATASET, "set")
    assert read.origin == (
        "the columns MEL, NV, BCC... of t.csv, one of which is 1 in each row "
        "(files by its column 'image')"
    )
    assert [label for label, _ in labels_of(read, files).values()] == ["MEL", "NV", "BCC", "MEL"]
    for row in ("a1,1,1,0", "a1,0,0,0"):
        rows[1] = row
        assert "t.csv has columns of 0 and 1 (MEL, NV, BCC...), but 1 of 4 rows do not" in error_of(
            {**FILES, "t.csv": csv(*rows)}
        )
    rows[1] = "a1,0.5,0.5,0"
    assert "no column is known for labels" in error_of({**FILES, "t.csv": csv(*rows)})


def test_a_column_for_each_class_that_class_folders_contradict() -> None:
    files = {f"{folder}/{n}.jpg": b"x" for n, folder in enumerate("aabb")}
    table = csv("image,p,q", "0,1,0", "1,0,1", "2,1,0", "3,0,1")
    assert "or table = 't.csv' in dataset.toml" in error_of({**files, "t.csv": table})
    assert len(labels({**files, "t.csv": table}, table="t.csv")) == 4


@pytest.mark.parametrize(
    "table",
    [
        b" id , label \na1 ,cat\nb2, dog\n",
        b"id,label\na1,cat,\nb2,dog, ,\n",
        b"id,label,\na1,cat,\nb2,dog\n",
        b"id,label,,\na1,cat,,\nb2,dog,,\n",
        b"sep=;\nid;label\na1;cat\nb2;dog\n",
        b'\xef\xbb\xbf"sep=;"\r\nid;label\r\na1;cat\r\nb2;dog\r\n',
        b"sep=|\nid|label\na1|cat\nb2|dog\n",
    ],
)
@pytest.mark.parametrize("keys", [{}, {"label_column": "label", "file_column": "id"}])
def test_blanks_surplus_separators_and_excels_first_line(
    table: bytes, keys: dict[str, str]
) -> None:
    assert labels({**FILES, "t.csv": table}, **keys) == {
        "train/a1.jpg": ("cat", None),
        "train/b2.jpg": ("dog", None),
    }


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_other_encodings_have_one_advice(encoding: str) -> None:
    message = error_of({"a1.jpg": b"", "t.csv": "id,label\na1,café".encode(encoding)})
    assert "t.csv is not CSV in UTF-8" in message
    assert ": save it as such, or say with encoding which it has, such as windows-1252" in message


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("encoding", "keys"),
    [("utf-16", {}), ("windows-1252", {"encoding": "windows-1252"})],
)
def test_encodings_by_their_mark_or_by_name(
    suffix: str, encoding: str, keys: dict[str, str]
) -> None:
    rows = ["sep=;", "id;label", *(f"{n};café" for n in ("a1", "b2"))]
    if suffix == "jsonl":
        rows = [f'{{"id": "{n}", "label": "café"}}' for n in ("a1", "b2")]
    content = {**FILES, f"t.{suffix}": "\r\n".join(rows).encode(encoding)}
    assert set(labels(content, **keys).values()) == {("café", None)}


def test_a_table_in_another_encoding_than_is_named() -> None:
    content = {**FILES, "t.csv": "id,label\na1,caf\x81".encode("latin-1")}
    assert "t.csv is not text in windows-1252 ('charmap' codec" in error_of(
        content, encoding="windows-1252"
    )


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
        (b"id,label\na1,cat\nb2", {}, "t.csv, line 3: it has 1 cell, but the first line 2"),
        (b"id,label\n" + b"x" * 200_000 + b",cat", {}, "field larger than field limit"),
        (b"id,id\n1,2", {}, "t.csv has the column 'id' twice"),
        (b"", {}, "t.csv is empty"),
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
    message = "t.csv names 'a', and several files may be meant: x/a.jpg and y/a.jpg; write their"
    assert message in error_of(content)
    content["t.csv"] = b"id,label\nx/a,c\nz/b,d"
    assert set(labels(content, label_column="label")) == {"x/a.jpg", "z/b.jpg"}


def test_a_table_of_a_split_names_the_files_of_its_folder() -> None:
    content = {
        **{f"{split}_images/{n}.jpg": b"" for split in ("train", "test") for n in range(4)},
        "train.csv": csv("id,label", "0,cat", "1,dog", "2,cat", "3,dog"),
    }
    files = listing_of(content)
    read = choose_labels(files, DATASET, "set")
    assert set(labels_of(read, files)) == {f"train_images/{n}.jpg" for n in range(4)}
    assert set(reasons_of(read, files).values()) == {"unlabelled"}


@pytest.mark.parametrize("root", ["/kaggle/input/x/", "../", "C:\\data\\", "x/y/z/", ""])
@pytest.mark.parametrize("top", ["", "data/"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ""])
def test_paths_of_another_machine_are_compared_by_their_ends(
    root: str, top: str, suffix: str
) -> None:
    names = [f"{folder}/{n}" for folder in "ab" for n in range(2)]
    table = csv("path,label", *(f"{root}{name}{suffix},{n % 2}" for n, name in enumerate(names)))
    content = {**{f"{top}{name}.jpg": b"" for name in names}, "t.csv": table}
    labelled = labels(content, label_column="label")
    assert [label for label, _ in labelled.values()] == ["0", "1", "0", "1"]


@pytest.mark.parametrize("root", ["/home/alice/set/", "D:\\set\\", "file:///set/", "../set/"])
@pytest.mark.parametrize("form", ["{}", "{} ", "/{}", "./{}", "x/../{}"])
def test_paths_of_another_machine_are_as_deep_as_those_here(root: str, form: str) -> None:
    names = [f"{top}/b/c/d{n}/{n}.jpg" for top in "az" for n in range(3)] + ["0.jpg", "a/0.jpg"]
    rows = [f"{root}{form.format(name)},{n % 2}" for n, name in enumerate(names)]
    content = {**dict.fromkeys(names, b""), "t.csv": csv("path,label", *rows)}
    labelled = labels(content, label_column="label")
    assert labelled == {name: (str(n % 2), None) for n, name in enumerate(names)}


@pytest.mark.parametrize("table", ["set/meta/t.csv", "set/meta/x/t.csv"])
def test_a_path_above_the_table_is_taken_from_its_folder(table: str) -> None:
    up = "../" * (table.count("/") - 1)
    rows = [f"{up}images/{n}.jpg,{n % 2}" for n in range(4)]
    files = [f"set/{folder}{n}.jpg" for folder in ("images/", "t/images/") for n in range(4)]
    content = {**dict.fromkeys(files, b""), table: csv("path,label", *rows)}
    assert set(labels(content, label_column="label")) == set(files[:4])


@pytest.mark.parametrize("root", ["", "/home/alice/", "../"])
def test_a_file_of_the_same_name_in_another_folder_is_not_meant(root: str) -> None:
    """Of dog/1.jpg where cat/1.jpg is missing: before, both rows were of it, with two labels."""
    names = [f"{label}/{n}.jpg" for label in ("cat", "dog") for n in range(4)]
    rows = [f"{root}{name},{name[:3]}" for name in names]
    content = {**dict.fromkeys(names[3:], b""), "t.csv": csv("path,label", *rows)}
    files = listing_of(content)
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files) == {name: (name[:3], None) for name in names[3:]}
    assert read.missing.to_pylist() == [f"{root}{name}" for name in names[:3]]


def test_names_beside_paths_are_found_too() -> None:
    cells = [
        "images/0.jpg",
        "1.jpg",
        "/home/a/images/2.jpg",
        "../images/3.jpg",
        "C:\\images\\4",
        "5",
    ]
    rows = [f"{cell},{n % 2}" for n, cell in enumerate(cells)]
    names = [f"images/{n}.jpg" for n in range(6)]
    content = {**dict.fromkeys(names, b""), "t.csv": csv("path,label", *rows)}
    assert list(labels(content)) == names


def test_a_column_of_names_of_images_may_have_any_name() -> None:
    table = csv("id,location,kind", *(f"{n},/x/{n}.jpg,{'ab'[n % 2]}" for n in range(4)))
    content = {**{f"y/{n}.jpg": b"" for n in range(4)}, "t.csv": table.replace(b"id", b"no")}
    assert len(labels(content, label_column="kind")) == 4


@pytest.mark.parametrize("name", ["/home/alice/x/{}.jpg", "../x/{}.jpg", "C:\\x\\{}.jpg"])
def test_paths_of_images_that_are_not_there_are_told(name: str) -> None:
    rows = [f"{name.format(n)},{n % 2}" for n in range(4)]
    message = error_of({"a/7.jpg": b"", "a/8.jpg": b"", "t.csv": csv("path,label", *rows)})
    assert "no file ends like one of those that the column 'path' of t.csv names" in message
    assert f"{name.format(0)!r}" in message
    assert "where there are a/7.jpg, a/8.jpg: give the folder that has these files" in message


TINY = [f"n{n:08}" for n in (1443537, 1629819)]
BOX = "0\t10\t63\t58"


def tiny_imagenet() -> dict[str, bytes]:
    """train with class folders, val with a list of labels, and test without."""
    train = [f"t/train/{label}/images/{label}_{n}.JPEG" for label in TINY for n in range(3)]
    boxes = {
        f"t/train/{label}/{label}_boxes.txt": csv(*(f"{label}_{n}.JPEG\t{BOX}" for n in range(3)))
        for label in TINY
    }
    others = [f"t/{split}/images/{split}_{n}.JPEG" for split in ("val", "test") for n in range(4)]
    rows = [f"val_{n}.JPEG\t{TINY[n % 2]}\t{BOX}" for n in range(4)]
    return {
        **dict.fromkeys([*train, *others], b""),
        **boxes,
        "t/val/val_annotations.txt": csv(*rows),
        "t/wnids.txt": csv(*TINY),
        "t/words.txt": csv(*(f"{label}\ta, b" for label in TINY)),
    }


def test_tiny_imagenet() -> None:
    files = listing_of(tiny_imagenet())
    read = choose_labels(files, DATASET, "set")
    labelled = labels_of(read, files)
    assert {name: facts for name, facts in labelled.items() if "/val/" in name} == {
        f"t/val/images/val_{n}.JPEG": (TINY[n % 2], "val") for n in range(4)
    }
    assert {facts for name, facts in labelled.items() if "/val/" not in name} == {
        (label, "train") for label in TINY
    }
    assert "the column '2' of t/val/val_annotations.txt" in read.origin
    assert read.notes == (
        "t/test/images has images without class folders: they are left out as unlabelled",
    )
    texts = ["t/wnids.txt", "t/words.txt", *(f"t/train/{x}/{x}_boxes.txt" for x in TINY)]
    images = {f"t/test/images/test_{n}.JPEG": "unlabelled" for n in range(4)}
    assert reasons_of(read, files) == images | dict.fromkeys(texts, "other_kind")


FLAT = {f"images/{n}.jpg": b"" for n in range(6)}
FLAT_LABELS = {name: ("cat" if n % 2 else "dog", None) for n, name in enumerate(FLAT)}


@pytest.mark.parametrize("separator", ["\t", " ", "   ", ",", ";", " | "])
@pytest.mark.parametrize("form", ["{}.jpg", "images/{}.jpg", "/home/a/images/{}.jpg"])
@pytest.mark.parametrize("rest", [(), ("1", "0.5")])
def test_a_list_of_files_and_labels(separator: str, form: str, rest: tuple[str, ...]) -> None:
    rows = [
        separator.join([form.format(n), label, *rest])
        for n, (label, _) in enumerate(FLAT_LABELS.values())
    ]
    assert labels({**FLAT, "labels.txt": csv("# file, class", *rows, "")}) == FLAT_LABELS
    header = separator.join(["file", "class", *("w", "h")[: len(rest)]])
    assert labels({**FLAT, "a.txt": csv(header, *rows)}, table="a.txt") == FLAT_LABELS
    if separator in {",", ";"}:  # before, the first image was the name of a column
        assert labels({**FLAT, "labels.csv": csv(*rows)}) == FLAT_LABELS


def test_a_csv_file_without_names_of_columns_may_name_files_without_suffix() -> None:
    files = {f"images/a{n}.jpg": b"" for n in range(6)}
    table = csv(*(f"a{n},{'cat' if n % 2 else 'dog'}" for n in range(6)))
    assert len(labels({**files, "labels.csv": table})) == 6


@pytest.mark.parametrize(
    "text",
    [
        csv("1 cat", "2 dog", "3 cat"),  # names of classes by number
        csv("1.jpg", "2.jpg", "3.jpg"),
        csv("Photographs of cats", "and of dogs"),
        csv("1.jpg 3", "2.jpg 3 4"),
        b"\xff\xfe\0x",
        b"",
    ],
)
def test_other_texts_beside_images_are_no_lists(text: bytes) -> None:
    content = {f"{label}/{n}.jpg": b"" for label in ("cat", "dog") for n in range(3)}
    files = listing_of({**content, "a.txt": text})
    read = choose_labels(files, DATASET, "set")
    assert (read.origin, read.notes) == ("the folders of the files", ())
    files = listing_of({**FLAT, "a.txt": text})
    assert choose_labels(files, DATASET, "set").classes() == {"images"}


def test_a_list_with_several_numbers_needs_a_column() -> None:
    table = {"list.txt": csv(*(f"{n}.jpg {n % 2} {n % 3}" for n in range(6)))}
    assert "list.txt names files in its column '1', but no column is known" in error_of(
        FLAT | table, table="list.txt"
    )
    labelled = labels(FLAT | table, table="list.txt", label_column="2")
    assert [label for label, _ in labelled.values()] == ["0", "1"] * 3


def test_lists_that_differ_are_refused() -> None:
    lists = {
        f"{name}.txt": csv(*(f"{n}.jpg {words[n % 2]}" for n in range(6)))
        for name, words in {"kinds": ("cat", "dog"), "quality": ("good", "bad")}.items()
    }
    with pytest.raises(AmbiguousLayoutError, match="two tables have labels for its files"):
        labels(FLAT | lists)
    assert len(labels(FLAT | {**lists, "quality.txt": lists["kinds.txt"]})) == 6


def test_a_list_beside_class_folders_adds_what_they_lack() -> None:
    """ImageNet's lists of numbers, beside class folders of train alone."""
    train = [f"train/{label}/{label}_{n}.jpg" for label in TINY for n in range(3)]
    content = {
        **dict.fromkeys([*train, *(f"val/{n}.jpg" for n in range(4))], b""),
        "train.txt": csv(*(f"{name[6:]} {TINY.index(name[6:15])}" for name in train)),
    }
    alone = listing_of({name: data for name, data in content.items() if "val/" not in name})
    read = choose_labels(alone, DATASET, "set")
    assert read.origin == "the folders of the files"
    assert "train.txt (files by its column '1') is not used beside class folders" in read.notes[0]
    content["val.txt"] = csv(*(f"{n}.jpg {n % 2}" for n in range(4)))
    labelled = labels(content)
    assert {labelled[f"val/{n}.jpg"] for n in range(4)} == {(label, "val") for label in TINY}
    assert labelled[train[0]] == (TINY[0], "train")


def test_names_of_several_files_are_refused_beside_folders_of_other_classes() -> None:
    folders = {f"{folder}/{n}.jpg": b"" for folder in ("Cat", "dog") for n in range(2)}
    message = error_of({**folders, "t.csv": b"id,label\n0,x\n1,y"})
    assert "t.csv names '0', and several files may be meant: Cat/0.jpg and dog/0.jpg" in message
    assert "pattern = '{label}/*'" in message
    assert len(labels({**folders, "t.csv": b"id,label\n0,x\n1,y"}, pattern="{label}/*")) == 4
    assert len(labels({**folders, "t.csv": b"id,label\n0,cat\n1,dog"})) == 4
    assert len(labels({**folders, "t.csv": b"id,width\n0,7\n1,8"})) == 4


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("stem", ["고양이{}", "é{}"])
def test_both_unicode_forms_of_a_name_are_one(on_disk: str, in_table: str, stem: str) -> None:
    form = {"NFD": unicodedata.normalize("NFD", stem), "NFC": stem}
    names = [f"{form[on_disk].format(n)}.jpg" for n in range(4)]
    rows = [f"{form[in_table].format(n)}.jpg,{label}" for n, label in enumerate(LABELS)]
    labelled = labels(dict.fromkeys(names, b"") | {"t.csv": csv("file,label", *rows)})
    assert labelled == {name: (label, None) for name, label in zip(names, LABELS, strict=True)}


def test_two_files_with_names_of_two_unicode_forms_are_two() -> None:
    names = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    table = csv("file,label", f"{names[0]},cat", f"{names[1]},dog")
    labelled = labels(dict.fromkeys(names, b"") | {"t.csv": table})
    assert [label for label, _ in labelled.values()] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("files", "cells", "example"),
    [
        (["IMG0.JPG", "x/IMG1.JPG"], ["img0.jpg", "img1.jpg"], "'img0.jpg' for 'IMG0.JPG'"),
        (["a.jpg", "b.jpg"], [" a.jpg", "b "], "' a.jpg' for 'a.jpg'"),
        (["0001.jpg", "x/0010.jpg"], ["1", "10"], "'1' for '0001.jpg'"),
        (["1.jpg", "10.jpg"], ["0001.jpg", "010.jpg"], "'0001.jpg' for '1.jpg'"),
    ],
)
def test_case_blanks_and_zeros_in_front_do_not_matter(
    files: list[str], cells: list[str], example: str
) -> None:
    table = csv("id,label", *(f"{cell},{n}" for n, cell in enumerate(cells)))
    listing = listing_of(dict.fromkeys(files, b"") | {"t.csv": table})
    read = choose_labels(listing, DATASET, "set")
    assert labels_of(read, listing) == {name: (str(n), None) for n, name in enumerate(files)}
    assert read.notes == (
        f"the column 'id' of t.csv has {example}: case, blanks and zeros in front do not matter "
        "where one file alone is meant",
    )


def test_a_name_that_two_files_have_in_another_case_is_missing() -> None:
    content = {"a.jpg": b"", "Bc.jpg": b"", "bC.jpg": b"", "t.csv": b"id,label\na,x\nbc.jpg,y"}
    files = listing_of(content)
    read = choose_labels(files, DATASET, "set")
    assert set(labels_of(read, files)) == {"a.jpg"}
    assert read.missing.to_pylist() == ["bc.jpg"]


def test_names_that_no_file_has_are_reported_with_those_of_the_files() -> None:
    message = error_of({**FILES, "t.csv": b"id,label\nq,cat\nr,dog"})
    assert (
        "the column 'id' of t.csv names none of its files, for instance 'q', 'r', where there are "
        "train/a1.jpg, train/b2.jpg, train/c3.jpg: say with file_column" in message
    )


def test_a_table_whose_labels_are_unclear_is_reported_where_all_are_in_one_folder() -> None:
    message = error_of({**FILES, "t.csv": b"id,a,b\na1,1,2"}).replace("train", "images")
    assert "no column is known for labels: say which has them with label_column" in message


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


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pattern": "{label}_#", "table": "t.csv"}, "table = 't.csv' has no effect, because the"),
        ({"pattern": "{label}_#", "label_column": "x"}, "label_column = 'x' has no effect"),
        (
            {"label_column": "label"},
            "label_column = 'label' has no effect, because the labels come",
        ),
    ],
)
def test_keys_without_effect_are_refused(keys: dict[str, str], message: str) -> None:
    assert message in error_of({f"{label}_{n}.jpg": b"" for label in "ab" for n in "12"}, **keys)


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_an_image_of_several_splits_is_in_the_latest(order: tuple[str, str]) -> None:
    rows = [f"a1,cat,{split}" for split in order] + ["b2,dog,train", "b2,dog,train"]
    files = listing_of({**FILES, "t.csv": csv("id,label,split", *rows)})
    read = choose_labels(files, DATASET, "set")
    assert read.notes == ("tables have 1 image in several splits: the latest of them counts",)
    assert labels_of(read, files) == {
        "train/a1.jpg": ("cat", "test"),
        "train/b2.jpg": ("dog", "train"),
    }


@pytest.mark.parametrize("header", ["id_code,diagnosis", "Image Index,Finding Labels"])
def test_columns_of_well_known_medical_tables(header: str) -> None:
    table = csv(f"{header},age", "a1,0,40", "b2,1,50", "c3,0,60", "d4,1,70")
    assert [label for label, _ in labels({**FILES, "t.csv": table}).values()] == list("0101")


@pytest.mark.parametrize("missing", ["nan", "NaN", " nan ", ""])
@pytest.mark.parametrize(("zero", "one"), [("cat", "dog"), ("0.0", "1.0")])
def test_labels_that_are_not_a_number_are_missing(missing: str, zero: str, one: str) -> None:
    table = csv("id,label", f"a1,{zero}", f"b2,{one}", f"c3,{zero}", f"d4,{missing}")
    files = listing_of({**FILES, "t.csv": table})
    read = choose_labels(files, DATASET, "set")
    expected = ["cat", "dog", "cat"] if zero == "cat" else ["0", "1", "0"]
    assert [label for label, _ in labels_of(read, files).values()] == expected
    assert reasons_of(read, files) == {"train/d4.jpg": "unlabelled"}
    note = "the column 'label' of t.csv has NaN in 1 row: without a label"
    assert read.notes == ((note,) if missing else ())


def test_nan_in_json_lines_and_none() -> None:
    values = ("1", "NaN", "0", "1")
    rows = [
        f'{{"id": "{name[6:-4]}", "label": {x}}}' for name, x in zip(FILES, values, strict=True)
    ]
    assert [label for label, _ in labels({**FILES, "t.jsonl": csv(*rows)}).values()] == list("101")
    table = csv("id,label", "a1,None", "b2,dog", "c3,None", "d4,dog")
    read = choose_labels(listing_of({**FILES, "t.csv": table}), DATASET, "set")
    assert read.classes() == {"None", "dog"}
    assert "the column 'label' of t.csv has 'None' in 2 rows" in read.notes[0]


@pytest.mark.parametrize("form", ["a photograph of {}", "{}.37", "{}", "k{}"])
@pytest.mark.parametrize("header", ["label", "text", "target"])
def test_labels_that_hardly_repeat_are_captions(form: str, header: str) -> None:
    table = csv(f"id,{header}", *(f"{name[6:-4]},{form.format(n)}" for n, name in enumerate(FILES)))
    content = {**FILES, "t.csv": table}
    for options in ({}, {"table": "t.csv"}):
        assert "4 texts for 4 images are captions or numbers, not classes" in error_of(
            content, **options
        )
    assert len(set(labels(content, label_column=header).values())) == 4
    folders = {f"{label}/{name[6:]}": b"" for name, label in zip(FILES, LABELS, strict=True)}
    assert [label for label, _ in labels({**folders, "t.csv": table}).values()] == list(LABELS)


def test_captions_are_counted_over_all_tables() -> None:
    files = {f"{n}.jpg": b"" for n in range(12)}
    tables = {"train.csv": csv("id,label", *(f"{n},{n % 3}" for n in range(9)))}
    tables["test.csv"] = csv("id,label", *(f"{n},{n % 3}" for n in range(9, 12)))
    assert len(labels({**files, **tables})) == 12
