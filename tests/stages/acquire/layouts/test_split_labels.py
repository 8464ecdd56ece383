from collections.abc import Mapping

import pytest

from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from tests.builders.listings import labels_of, listing_of, reasons_of

DATASET = FolderDataset(kind="folder", description="d")
CLASSES = ("pho", "apple_pie")
NAMES = [f"food/images/{label}/{n}.jpg" for label in CLASSES for n in range(6)]


def lines(form: str, numbers: range) -> bytes:
    return "".join(f"{form.format(label, n)}\n" for label in CLASSES for n in numbers).encode()


def read(
    lists: Mapping[str, bytes], names: list[str] = NAMES, **keys: object
) -> tuple[list[str | None], tuple[str, ...]]:
    """The splits of the images, and the notes; what gives the splits is not left out."""
    files = listing_of(dict.fromkeys(names, b"") | dict(lists))
    labels = choose_labels(files, DATASET.model_copy(update=keys), "set")
    splits = [split for _, split in labels_of(labels, files).values()]
    is_used = any("the splits come from" in note for note in labels.notes)
    assert is_used == (not reasons_of(labels, files).keys() & lists.keys())
    return splits, labels.notes


SPLITS = ["train"] * 3 + ["val"] + ["test"] * 2


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("{}/{}", "food/meta/{}.txt"),  # Food-101
        ("{}/{}.jpg", "labels/{}1.txt"),  # Describable Textures
        ("images/{}/{}.jpg", "{}Images.txt"),  # MIT Indoor 67
        ("/home/alice/food/images/{}/{}.jpg 7", "{}_list.txt"),
        ("{}/{}.jpg", "food/{}.lst"),
    ],
)
def test_lists_named_after_splits(form: str, name: str) -> None:
    parts = {"train": range(3), "val": range(3, 4), "test": range(4, 6)}
    lists = {name.format(split): lines(form, part) for split, part in parts.items()}
    splits, (note,) = read(lists)
    assert splits == SPLITS * 2
    assert note.startswith(f"the splits come from {', '.join(lists)}, unless ignore_splits = true")


def test_what_no_list_names_is_of_train() -> None:
    splits, (note,) = read({"testing_list.txt": b"# test\r\n" + lines("{}/{}.jpg", range(4, 6))})
    assert splits == (["train"] * 4 + ["test"] * 2) * 2
    assert "; all other images are of train, unless" in note


@pytest.mark.parametrize("column", ["split", "partition"])
def test_tables_of_splits_without_labels(column: str) -> None:
    table = f"file,{column}\n".encode()
    for split, part in (("train", range(3)), ("val", range(3, 4)), ("test", range(4, 6))):
        table += lines(f"{{}}/{{}}.jpg,{split}", part)
    assert read({"splits.csv": table})[0] == SPLITS * 2
    numbered = table.replace(b"train", b"0").replace(b"val", b"1").replace(b"test", b"2")
    splits, (note,) = read({"splits.csv": numbered})
    assert set(splits) == {None}
    assert "has '0', which is no split: say which, such as splits = {" in note
    own = {"0": "train", "1": "val", "2": "test"}
    assert read({"splits.csv": numbered}, splits=own)[0] == SPLITS * 2


def test_lists_beside_names_of_files_and_masks() -> None:
    """Oxford Pets: the lists name images without suffix, and trimaps have the same names."""
    names = [f"images/{label}_{n}.jpg" for label in ("great_dane", "pug") for n in range(6)]
    masks = [name.replace("images", "annotations/trimaps").replace("jpg", "png") for name in names]
    lists = {"annotations/test.txt": b"great_dane_0 1 2 1\ngreat_dane_5 1 2 1\npug_4 2 2 1\n"}
    splits, _ = read(lists, names + masks, pattern="images/{label}_#")
    assert [n for n, split in enumerate(splits) if split == "test"] == [0, 5, 10]


@pytest.mark.parametrize(
    ("lists", "problem"),
    [
        (
            {"train1.txt": range(4), "test1.txt": range(4, 6), "test2.txt": range(2)},
            "have images in several splits, so no list of",
        ),
        ({"train.txt": range(3), "test.txt": range(4, 6)}, "lack 2 images, so no list of"),
        ({"val.txt": range(5), "test.txt": range(5, 9)}, "test.txt has 6 lines that name no image"),
        ({"val.txt": range(1, 7), "test.txt": range(1)}, "val.txt has 2 lines that name no image"),
        ({"test.txt": range(3, 8)}, "test.txt has 4 lines that name no image with a label"),
    ],
)
def test_lists_that_contradict_or_are_incomplete(lists: dict[str, range], problem: str) -> None:
    splits, notes = read({name: lines("{}/{}.jpg", part) for name, part in lists.items()})
    assert set(splits) == {None}
    assert any(problem in note for note in notes)


def test_lists_of_another_form_are_mentioned() -> None:
    """Caltech-UCSD Birds."""
    splits, (note,) = read({"train_test_split.txt": b"1 0\n2 1\n"})
    assert set(splits) == {None}
    assert note.startswith("train_test_split.txt may tell splits, in a form that is not read, so ")


@pytest.mark.parametrize(
    "others",
    [
        {"classes.txt": b"pho\n"},
        {"test.txt": b"see the test set\n"},
        {"test.txt": b"\xff\xfe"},
        {"train.txt": b""},
        {"notes.csv": b"a,split\n1,train\n"},
    ],
)
def test_other_texts_say_nothing(others: dict[str, bytes]) -> None:
    assert read(others) == ([None] * 12, ())


def test_folders_of_splits_come_first() -> None:
    names = [f"{split}/{label}/1.jpg" for split in ("train", "test") for label in CLASSES]
    splits, notes = read({"test.txt": b"train/pho/1.jpg\n"}, names)
    assert splits == ["train", "train", "test", "test"]
    assert notes == ()
