import json
from collections.abc import Sequence

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from tests.builders.listings import labels_of, listing_of, reasons_of

DATASET = FolderDataset(kind="folder", description="d")


def shard(suffix: str, labels: Sequence[object]) -> dict[str, bytes]:
    """The members of a WebDataset."""
    members: dict[str, bytes] = {}
    for number, label in enumerate(labels):
        members[f"x/{number:06d}.jpg"] = b"image"
        data = json.dumps(label) if suffix == "json" else str(label)
        members[f"x/{number:06d}.{suffix}"] = data.encode()
    return members


@pytest.mark.parametrize(
    ("suffix", "labels", "expected"),
    [
        ("cls", [0, 1, 0], ["0", "1", "0"]),
        ("txt", ["cat\n", "dog", " cat"], ["cat", "dog", "cat"]),
        (
            "json",
            [{"id": 7, "label": "cat"}, {"label": "dog"}, {"label": "cat"}],
            ["cat", "dog", "cat"],
        ),
    ],
)
def test_webdatasets_labels(suffix: str, labels: list[object], expected: list[str]) -> None:
    files = listing_of(shard(suffix, labels))
    read = choose_labels(files, DATASET, "set")
    assert [label for label, _ in labels_of(read, files).values()] == expected
    assert reasons_of(read, files) == {}
    assert read.origin == f"the .{suffix} file beside each image"
    assert read.classes() == set(expected)


def test_cls_comes_before_json_and_captions_are_no_labels() -> None:
    files = listing_of(shard("cls", [0, 1, 0, 1]) | shard("txt", ["a", "b", "c", "d"]))
    assert choose_labels(files, DATASET, "set").origin == "the .cls file beside each image"
    captions = listing_of(shard("txt", [f"a photograph of {n}" for n in range(9)]))
    assert choose_labels(captions, DATASET, "set").origin == "the folders of the files"


def test_the_key_of_json_can_be_given() -> None:
    files = listing_of(shard("json", [{"kind": "cat"}, {"kind": "dog"}]))
    dataset = DATASET.model_copy(update={"label_column": "kind"})
    assert choose_labels(files, dataset, "set").classes() == {"cat", "dog"}


def test_images_without_a_label_are_left_out() -> None:
    members = shard("cls", list(range(2)) * 10)
    del members["x/000003.cls"]
    files = listing_of(members | {"x/readme.md": b""})
    read = choose_labels(files, DATASET, "set")
    assert reasons_of(read, files) == {"x/000003.jpg": "unlabelled", "x/readme.md": "other_kind"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "set: x/000001.cls has no label: a text or a number"),
        (b"\xff", "set: x/000001.cls has no label ('utf-8' codec"),
        (b"a\0b", "set: x/000001.cls has no label"),
        (b"x" * 70_000, "set: x/000001.cls has 70000 bytes, too many for a label"),
    ],
)
def test_a_file_without_a_label_is_refused(data: bytes, message: str) -> None:
    files = listing_of(shard("cls", [0, 1]) | {"x/000001.cls": data})
    with pytest.raises(PipelineError) as caught:
        choose_labels(files, DATASET, "set")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "text", ["[", "[" * 60_000, "[1]", "null", '"label"', '{"label": true}', '{"label": {}}', "{}"]
)
def test_json_without_a_label_is_refused(text: str) -> None:
    files = listing_of(
        shard("json", [{"label": "a"}, {"label": "b"}]) | {"x/000001.json": text.encode()}
    )
    with pytest.raises(PipelineError, match=r"set: x/000001\.json has no label"):
        choose_labels(files, DATASET, "set")


def in_folders(suffix: str, contents: Sequence[str]) -> dict[str, bytes]:
    """Five cats and five dogs in class folders, each with a file beside it."""
    members: dict[str, bytes] = {}
    for label in ("cat", "dog"):
        for n in range(5):
            members[f"{label}/{n}.jpg"] = b"image"
            members[f"{label}/{n}{suffix}"] = contents[n % len(contents)].encode()
    return members


@pytest.mark.parametrize(
    ("suffix", "contents"),
    [
        (".txt", ["0 0.5 0.5 1 1", "1 0.5 0.5 1 1\n0 0.1 0.2 3e-2 1"]),
        (".txt", ["0 0.5 0.5 1 1", ""]),
        (".txt", [""]),
        (".txt", ["a pet"]),
        (".jpg.json", ['{"title": "IMG.jpg", "photoTakenTime": {"timestamp": "1"}}']),
        (".json", ["[]"]),
    ],
    ids=["boxes", "boxes and nothing", "empty", "one text", "Takeout", "lists"],
)
def test_files_without_labels_beside_images_in_class_folders(
    suffix: str, contents: list[str]
) -> None:
    read = choose_labels(listing_of(in_folders(suffix, contents)), DATASET, "set")
    assert (read.origin, read.classes()) == ("the folders of the files", {"cat", "dog"})


@pytest.mark.parametrize(
    ("suffix", "contents", "classes"),
    [
        (".txt", ["a pet", "an animal"], {"a pet", "an animal"}),
        (".json", ['{"label": "indoor"}', '{"label": "outdoor"}'], {"indoor", "outdoor"}),
        (".cls", ["0", "1"], {"0", "1"}),
    ],
)
def test_files_beside_images_that_disagree_with_folders_are_refused_with_both_readings(
    suffix: str, contents: list[str], classes: set[str]
) -> None:
    files = listing_of(in_folders(suffix, contents))
    with pytest.raises(AmbiguousLayoutError) as caught:
        choose_labels(files, DATASET, "set")
    assert str(caught.value).startswith(
        f"set: its folders and the {suffix} file beside each image tell different classes: the "
        "folders cat, dog, or the files' "
    )
    by_folder, by_file = ({reading.key: reading.value} for reading in caught.value.readings)
    for keys, expected in ((by_folder, {"cat", "dog"}), (by_file, classes)):
        read = choose_labels(files, DATASET.model_copy(update=keys), "set")
        assert read.classes() == expected


def test_folders_have_names_for_the_numbers_beside_images() -> None:
    members = in_folders(".cls", ["0"])
    members |= {f"dog/{n}.cls": b"1" for n in range(5)}
    read = choose_labels(listing_of(members), DATASET, "set")
    assert read.classes() == {"cat", "dog"}


def test_numbered_folders_of_shards_are_no_classes() -> None:
    members = shard("txt", ["cat", "dog"] * 3)
    content = {
        name.replace("x/00000", f"0000{n % 4 // 2}/"): members[name]
        for n, name in enumerate(members)
    }
    assert choose_labels(listing_of(content), DATASET, "set").classes() == {"cat", "dog"}


@pytest.mark.parametrize(
    "members",
    [
        shard("json", [{"class": n % 2, "class_name": ["cat", "dog"][n % 2]} for n in range(4)]),
        shard("json", [{"key": "x", "width": 3}] * 4) | shard("txt", ["cat", "dog"] * 2),
        shard("cls", [0, 1] * 2)
        | shard("json", [{"class_name": "cat"}, {"class_name": "dog"}] * 2),
    ],
    ids=["two keys", "no key", "numbers beside texts"],
)
def test_texts_come_before_numbers_and_files_without_labels(members: dict[str, bytes]) -> None:
    assert choose_labels(listing_of(members), DATASET, "set").classes() == {"cat", "dog"}


def test_whole_numbers_with_a_point_are_labels() -> None:
    files = listing_of(shard("json", [{"label": 0.0}, {"label": 1.0}]))
    assert choose_labels(files, DATASET, "set").classes() == {"0", "1"}


def test_two_keys_with_different_classes_are_refused() -> None:
    records = [{"class": n // 2, "species": ["cat", "dog"][n % 2]} for n in range(4)]
    with pytest.raises(AmbiguousLayoutError, match=r"two keys of its \.json files may have"):
        choose_labels(listing_of(shard("json", records)), DATASET, "set")


@pytest.mark.parametrize("folder", ["", "x/"])
def test_files_without_labels_are_mentioned_where_nothing_else_has_them(folder: str) -> None:
    members = shard("json", [{"kind": "cat"}] * 2)
    files = listing_of({name.replace("x/", folder): data for name, data in members.items()})
    message = (
        rf"{folder}000000\.json has no label: a text or a number, whose key label_column names"
    )
    with pytest.raises(PipelineError, match=message):
        choose_labels(files, DATASET, "set")


@pytest.mark.parametrize("key", ["label_column", "file_column", "encoding"])
def test_keys_of_tables_have_no_effect_on_texts(key: str) -> None:
    files = listing_of(shard("cls", [0, 1, 0, 1]))
    with pytest.raises(PipelineError):
        choose_labels(files, DATASET.model_copy(update={key: "latin-1"}), "set")
