import json
from collections.abc import Sequence

import pytest

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
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
    assert reasons_of(read, files) == {"x/000003.jpg": "unlabelled", "x/readme.md": "unlabelled"}


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
    "text", ["[", "[" * 60_000, "[1]", '{"label": true}', '{"label": {}}', "{}"]
)
def test_json_without_a_label_is_refused(text: str) -> None:
    files = listing_of(
        shard("json", [{"label": "a"}, {"label": "b"}]) | {"x/000001.json": text.encode()}
    )
    with pytest.raises(PipelineError, match=r"set: x/000001\.json has no label"):
        choose_labels(files, DATASET, "set")
