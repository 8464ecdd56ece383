from collections import Counter

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, FileLabels
from tests.builders.listings import labels_of, listing_of, reasons_of

DATASET = FolderDataset(kind="folder", description="d")


def test_a_folder_of_live_photos_has_its_photographs_alone() -> None:
    suffixes = ("HEIC", "MOV", "AAE")
    files = listing_of(
        [f"{label}/IMG_{n}.{x}" for label in ("cat", "dog") for n in range(3) for x in suffixes]
    )
    read = choose_labels(files, DATASET, "set")
    assert Counter(label for label, _ in labels_of(read, files).values()) == {"cat": 3, "dog": 3}
    assert Counter(reasons_of(read, files).values()) == {"other_kind": 12}


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", "a.json", "list.csv", "v.mov", "v.M4V", "v.avi", "v.3gp", "IMG_1.THM"),
        *("IMG.xmp", "1.jpg.part", "x.tmp", "x.crdownload", "ZbThumbnail.info", "pspbrwse.jbf"),
        *("1.jpg:Zone.Identifier", "a.zip", "README"),
    ],
)
def test_files_of_another_kind_in_a_class_folder_are_left_out(name: str) -> None:
    files = listing_of(["cat/1.jpg", "dog/1.jpg", f"cat/{name}"])
    read = choose_labels(files, DATASET, "set")
    assert set(labels_of(read, files)) == {"cat/1.jpg", "dog/1.jpg"}
    assert reasons_of(read, files) == {f"cat/{name}": "other_kind"}


@pytest.mark.parametrize("name", ["1", "photo", "1.jpg~", "1.DNG", "1.unheard", "1.jpg_large"])
def test_files_of_an_unknown_kind_may_be_images(name: str) -> None:
    files = listing_of(["cat/1.jpg", "dog/1.jpg", f"cat/{name}"])
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files)[f"cat/{name}"] == ("cat", None)


def photos(*folders: str, data: bytes = b"", count: int = 3) -> dict[str, bytes]:
    """Images of equal names in some folders, each folder's of another size."""
    return {
        f"{folder}/{n}.jpg": data or bytes(len(folder) + 10 * n)
        for folder in folders
        for n in range(count)
    }


def same(*folders: str) -> dict[str, bytes]:
    """Images of equal names and sizes in some folders."""
    return photos(*folders, data=b"same")


@pytest.mark.parametrize(
    ("content", "copies"),
    [
        (photos("P/Dog") | same("P/Cat", "P/cleaned/Cat"), ["P/cleaned/Cat"]),
        (photos("A", "B") | same("C", "cleaned/C"), ["cleaned/C"]),
        (photos("Dog") | same("Cat", "Cat - Copy"), ["Cat - Copy"]),
        (photos("Dog") | same("Cat", "Copy of Cat", "cat copy 2"), ["Copy of Cat", "cat copy 2"]),
        (photos("Dog") | same("Cat", "Cat (1)", "Cat_copy"), ["Cat (1)", "Cat_copy"]),
        (photos("Dog") | same("고양이", "고양이 - 복사본"), ["고양이 - 복사본"]),
        (photos("Dog") | same("Cat", "Cat/Cat"), ["Cat/Cat"]),
        (photos("P/a") | same("P/b", "P/P/b"), ["P/P/b"]),
        (same("P/a", "P/b", "P/b/old/b"), ["P/b/old/b"]),
        (same("c/train/a", "c/test/b", "c/c/train/a", "c/c/test/b"), ["c/c/train/a", "c/c/test/b"]),
        (same("train/a", "test/b", "train - Copy/a"), ["train - Copy/a"]),
    ],
)
def test_copies_of_folders_are_left_out(content: dict[str, bytes], copies: list[str]) -> None:
    files = listing_of(content)
    read = choose_labels(files, DATASET, "set")
    expected = [name for name in content if name.rpartition("/")[0] in copies]
    assert reasons_of(read, files) == dict.fromkeys(expected, "copied_folder")
    assert len(read.classes()) == 2 + ("A/0.jpg" in content)
    assert "by the names and sizes of its files: they are left out" in read.notes[0]


def test_a_numbered_folder_with_other_images_is_a_class() -> None:
    files = listing_of(photos("Type", "Type (1)"))
    assert choose_labels(files, DATASET, "set").classes() == {"Type", "Type (1)"}


def test_a_folder_called_a_copy_with_other_images_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        choose_labels(listing_of(photos("Dog", "Cat", "Cat - Copy")), DATASET, "set")
    assert str(caught.value) == (
        "set: Cat - Copy is called a copy of Cat, but has other images: move its images to Cat, "
        "or, if it is a class of its own, write pattern = '{label}/*' in dataset.toml"
    )


@pytest.mark.parametrize(
    "content",
    [
        photos("A", "B", "C", "cleaned/A"),
        photos("A", "B") | same("C", "cleaned/C") | photos("cleaned/D"),
        photos("A", "B") | same("C", "cleaned/C") | photos("cleaned", count=1),
    ],
    ids=["other files", "another class", "few of its own"],
)
def test_a_folder_that_repeats_one_class_in_part_is_refused(content: dict[str, bytes]) -> None:
    with pytest.raises(AmbiguousLayoutError) as caught:
        choose_labels(listing_of(content), DATASET, "set")
    assert [reading.value for reading in caught.value.readings] == ["/{label}/*", "{label}/*"]


def test_a_class_with_a_folder_named_like_another_class_is_one() -> None:
    files = listing_of(photos("cat", "dog", "dog/cat"))
    labels = labels_of(choose_labels(files, DATASET, "set"), files)
    assert labels["dog/cat/0.jpg"] == ("dog", None)


def read(content: dict[str, bytes], pattern: str | None = None) -> FileLabels:
    dataset = DATASET.model_copy(update={"pattern": pattern})
    return choose_labels(listing_of(content), dataset, "set")


@pytest.mark.parametrize(
    ("content", "outer", "inner"),
    [
        (
            photos("alice/cat", "alice/dog", "bob/cat", "bob/dog"),
            ("/{label}/**", {"alice", "bob"}),
            ("{label}/*", {"cat", "dog"}),
        ),
        (
            photos("z/mammal/cat", "z/mammal/dog", "z/bird/robin", "z/bird/owl"),
            ("/z/{label}/**", {"mammal", "bird"}),
            ("{label}/*", {"cat", "dog", "robin", "owl"}),
        ),
        (
            photos("pets/cat", "pets/dog", count=9) | photos("docs", count=1),
            ("/{label}/**", {"pets", "docs"}),
            ("/*/{label}/**", {"cat", "dog"}),
        ),
        (
            photos("animals/cat", "animals/bird", "dog"),
            ("/{label}/**", {"animals", "dog"}),
            ("{label}/*", {"bird", "cat", "dog"}),
        ),
        (
            photos("train/a/x/i", "train/a/y/i", "test/b/x/i", "test/b/y/i"),
            ("/*/{label}/**", {"a", "b"}),
            ("/*/*/{label}/**", {"x", "y"}),
        ),
        (
            photos("ann/0", "ann/1", "bob/0", "bob/1"),
            ("/{label}/**", {"ann", "bob"}),
            ("{label}/*", {"0", "1"}),
        ),
    ],
    ids=["authors", "taxonomy", "stray folder", "mixed depths", "deep", "digits"],
)
def test_classes_at_two_levels_are_refused_with_both_readings(
    content: dict[str, bytes], outer: tuple[str, set[str]], inner: tuple[str, set[str]]
) -> None:
    with pytest.raises(AmbiguousLayoutError) as caught:
        read(content)
    assert "set: its folders may be classes at two levels: the outer folders " in str(caught.value)
    for reading, (pattern, classes) in zip(caught.value.readings, (outer, inner), strict=True):
        assert reading.value == pattern
        assert read(content, pattern).classes() == classes


@pytest.mark.parametrize(
    "content",
    [
        photos("cat/images", "dog/images"),
        photos("cat/cats", "dog/dogs"),
        photos("cat", "dog/sub/sub"),
        photos("cat", "cat/left", "dog", "dog/left", "dog/right"),
        photos("cat/train", "cat/test", "dog/train", "dog/test"),
        photos("cat/train", "cat/val2017", "dog"),
        photos("cat/001", "cat/002", "dog/003"),
        photos("cat/DCIM", "cat/IMG_1", "dog/DCIM"),
        photos("train/cat/x", "test/cat/x", "test/dog/x"),
    ],
)
def test_folders_inside_classes_that_tell_nothing_are_understood(content: dict[str, bytes]) -> None:
    assert read(content).classes() == {"cat", "dog"}
    assert choose_labels(listing_of(content), DATASET, "set").origin == "the folders of the files"


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (
            ["training_set/training_set/cats/cat.{}.jpg", "test_set/test_set/dogs/dog.{}.jpg"],
            "cats",
        ),
        (["seg_train/seg_train/sea/{}.jpg", "seg_test/seg_test/ice/{}.jpg"], "sea"),
        (["train2017/cat/{}.jpg", "val2017/dog/{}.jpg"], "cat"),
    ],
)
def test_folders_of_well_known_data_sets_have_splits(names: list[str], label: str) -> None:
    files = listing_of([name.format(n) for name in names for n in range(4)])
    facts = labels_of(choose_labels(files, DATASET, "set"), files)
    assert facts[names[0].format(0)] == (label, "train")
    assert len({label for label, _ in facts.values()}) == 2


def test_class_folders_with_splits_in_their_names_are_refused_with_both_readings() -> None:
    content = photos("car_train", "car_test", "dog_train", "dog_test")
    with pytest.raises(AmbiguousLayoutError) as caught:
        read(content)
    inner, outer = (reading.value for reading in caught.value.readings)
    assert (inner, outer) == ("{label}_{split}/*", "{label}/*")
    files = listing_of(content)
    facts = labels_of(read(content, inner), files)
    assert facts["car_test/0.jpg"] == ("car", "test")
    assert len(read(content, outer).classes()) == 4


@pytest.mark.parametrize("folders", [("car_train", "dog_test"), ("bullet_train", "steam_train")])
def test_one_folder_for_each_class_may_have_the_name_of_a_split(folders: tuple[str, ...]) -> None:
    assert read(photos(*folders)).classes() == set(folders)


@pytest.mark.parametrize(
    ("folders", "notes"),
    [
        (("animals/cat", "dog"), ("classes are called after the outer folders of animals/cat",)),
        (("cat/images", "dog"), ()),
        (("cat/view", "dog/view"), ()),
    ],
)
def test_it_is_said_that_a_class_has_the_name_of_the_outer_folder(
    folders: tuple[str, ...], notes: tuple[str, ...]
) -> None:
    assert read(photos(*folders)).notes == notes


def test_folders_of_images_below_val_and_test_are_no_class() -> None:
    train = [f"tiny/train/{label}/images/{n}.jpg" for label in ("n01", "n02") for n in range(2)]
    flat = ["tiny/val/images/5.jpg", "tiny/test/images/6.jpg"]
    files = listing_of([*train, *flat])
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files) == {name: (name.split("/")[2], "train") for name in train}
    assert reasons_of(read, files) == dict.fromkeys(flat, "unlabelled")
    assert read.notes[0].startswith("tiny/test/images, tiny/val/images have images without class")
    files = listing_of(["train/images/1.jpg", "train/cat/2.jpg", "val/images/3.jpg"])
    assert choose_labels(files, DATASET, "set").classes() == {"images", "cat"}


def test_annotations_without_a_suffix_are_no_images() -> None:
    """Stanford Dogs: Images/n02085620-Chihuahua/1.jpg, Annotation/n02085620-Chihuahua/1."""
    classes = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
    names = [f"Images/{label}/{n}.jpg" for label in classes for n in range(3)]
    texts = [f"Annotation/{label}/{n}" for label in classes for n in range(3)]
    files = listing_of(dict.fromkeys(names, b"\xff\xd8\xff") | dict.fromkeys(texts, b"<x>"))
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files) == {name: (name.split("/")[1], None) for name in names}
    assert reasons_of(read, files) == dict.fromkeys(texts, "outside_class_folders")
    assert read.notes == (
        "the files in Annotation are no images, by how they start: they are left out",
    )


def test_images_without_a_suffix_are_images_beside_others_with_one() -> None:
    files = listing_of({"cat/1.jpg": b"\xff\xd8\xff", "dog/1": b"<x>", "dog/2": b"\xff\xd8\xff"})
    assert len(labels_of(choose_labels(files, DATASET, "set"), files)) == 3
