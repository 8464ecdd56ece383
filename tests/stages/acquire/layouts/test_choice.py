from typing import Literal, TypeAlias
from unicodedata import normalize

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from tests.builders.listings import labels_of, listing_of, reasons_of

Form: TypeAlias = Literal["NFC", "NFD"]
DATASET = FolderDataset(kind="folder", description="d")


def labels(names: list[str], **keys: str) -> dict[str, tuple[str, str | None]]:
    files = listing_of(names)
    return labels_of(choose_labels(files, DATASET.model_copy(update=keys), "set"), files)


def error_of(names: list[str], **keys: str) -> str:
    with pytest.raises(PipelineError) as caught:
        labels(names, **keys)
    return str(caught.value)


def ambiguous(names: list[str]) -> AmbiguousLayoutError:
    with pytest.raises(AmbiguousLayoutError) as caught:
        labels(names)
    return caught.value


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("dev", "val"),
        ("test", "test"),
        ("testing", "test"),
        ("eval", "test"),
        ("evaluation", "test"),
    ],
)
@pytest.mark.parametrize("form", ["a/{0}/images/{1}/1.jpg", "{0}/{1}/x/1.jpg", "a/b/{1}/{0}/1.jpg"])
def test_splits_are_folders_at_any_depth(folder: str, split: str, form: str) -> None:
    names = [form.format(folder, label) for label in ("cat", "dog")]
    assert list(labels(names).values()) == [("cat", split), ("dog", split)]


def test_folders_without_images_are_no_classes() -> None:
    names = ["cat/1.jpg", "dog/1.jpg", "docs/readme.md", "code/a.py", "train.csv", "cat/Thumbs.db"]
    assert set(labels(names)) == {"cat/1.jpg", "dog/1.jpg"}


PETS = [f"PetImages/{label}/{n}.jpg" for label in ("Cat", "Dog") for n in range(3)]


@pytest.mark.parametrize(
    "copy", ["PetImages/cleaned/", "PetImages/backup/old/", "PetImages/x/CAT/"]
)
def test_a_stray_copy_of_the_class_folders_is_left_out(copy: str) -> None:
    copies = [name.replace("PetImages/", copy) for name in PETS if not name.endswith("/1.jpg")]
    files = listing_of(dict.fromkeys(PETS + copies, b"same"))
    read = choose_labels(files, DATASET, "set")
    if copy.endswith("CAT/"):  # below a folder of a class's name, as deep as one likes
        assert set(labels_of(read, files)) >= set(PETS)
        return
    assert set(labels_of(read, files)) == set(PETS)
    assert read.classes() == {"Cat", "Dog"}
    assert reasons_of(read, files) == dict.fromkeys(copies, "copied_folder")
    root = copy.split("/")[1]
    assert read.notes == (
        f"{root} has copies of the class folders Cat, Dog, by the names and sizes of its files: "
        "they are left out",
    )


def test_a_copy_with_other_files_is_refused_with_both_readings() -> None:
    names = [*PETS, "PetImages/cleaned/Cat/1.jpg", "PetImages/cleaned/Dog/new.jpg"]
    error = ambiguous(names)
    assert str(error) == (
        "set: cleaned beside the class folders has folders of the same names, with other files: "
        "without cleaned, or cleaned alone? Write pattern = '/PetImages/{label}/*' or "
        "pattern = 'cleaned/{label}/*' in dataset.toml"
    )
    outer, inner = (reading.value for reading in error.readings)
    assert set(labels(names, pattern=outer)) == set(PETS)
    assert set(labels(names, pattern=inner)) == set(names) - set(PETS)


def test_a_copy_within_a_split_is_one_too() -> None:
    names = [f"train/{name}" for name in ("a/1", "b/1", "old/a/1", "old/b/2")] + ["test/a/1"]
    outer, inner = (reading.value for reading in ambiguous(names).readings)
    assert set(labels(names, pattern=outer)) == {"train/a/1", "train/b/1", "test/a/1"}
    assert labels(names, pattern=inner) == {
        "train/old/a/1": ("a", "train"),
        "train/old/b/2": ("b", "train"),
    }


def test_classes_whose_folders_share_names_of_folders_are_no_copies() -> None:
    names = ["cat/left/1.jpg", "dog/left/1.jpg", "cat/dog/1.jpg", "cat/2.jpg"]
    assert labels(names)["cat/dog/1.jpg"] == ("cat", None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat.1.jpg", "cat.2.jpg", "dog.1.jpg", "dog.2.jpg"], "{label}.#"),
        (["x/cat_001.png", "x/cat_2.png", "x/dog_017.png", "x/dog_9.png"], "{label}_#"),
        (["cat (1).jpg", "cat (2).jpg", "dog (1).jpg", "dog (2).jpg"], "{label} (#)"),
        (["cat1.jpg", "cat2.jpg", "dog1.jpg", "dog2.jpg"], "{label}#"),
        (["cat.1.jpg", "cat_2.jpg", "dog-1.jpg", "dog2.jpg"], "{label}#"),
        (["1_cat.jpg", "2_cat.jpg", "3_dog.jpg", "4_dog.jpg"], "#_{label}"),
    ],
)
def test_labels_in_the_names_of_files(names: list[str], expected: str) -> None:
    assert [label for label, _ in labels(names).values()] == ["cat", "cat", "dog", "dog"]
    files = listing_of(names)
    assert choose_labels(files, DATASET, "set").origin == (
        f"the paths of the files, by the pattern {expected}"
    )


def test_numbered_test_images_beside_a_named_train_set_are_left_out() -> None:
    """As in Kaggle's dogs-vs-cats."""
    names = [f"d/train/{label}.{n}.jpg" for label in ("cat", "dog") for n in range(3)]
    files = listing_of([*names, "d/test1/1.jpg", "d/test1/2.jpg", "d/sampleSubmission.csv"])
    read = choose_labels(files, DATASET, "set")
    assert labels_of(read, files)["d/train/cat.0.jpg"] == ("cat", "train")
    assert reasons_of(read, files) == {
        "d/test1/1.jpg": "unlabelled",
        "d/test1/2.jpg": "unlabelled",
        "d/sampleSubmission.csv": "other_kind",
    }


def test_names_of_two_parts_are_refused_with_both_readings() -> None:
    names = [
        f"{name}_{n}.jpg"
        for name in ("american_bulldog", "american_pit_bull", "great_dane")
        for n in range(4)
    ]
    error = ambiguous(names)
    assert "{label}_#" in str(error)
    longer, shorter = (reading.value for reading in error.readings)
    assert {label for label, _ in labels(names, pattern=longer).values()} == {
        "american_bulldog",
        "american_pit_bull",
        "great_dane",
    }
    assert {label for label, _ in labels(names, pattern=shorter).values()} == {"american", "great"}


def test_parts_that_decide_nothing_are_not_asked_about() -> None:
    names = [f"{name}_{n}.jpg" for name in ("golden_retriever", "tabby_cat") for n in range(3)]
    assert {label for label, _ in labels(names).values()} == {"golden_retriever", "tabby_cat"}


def test_folders_and_names_that_disagree_are_refused_with_both_readings() -> None:
    names = [f"{part}/{label}_{n}.jpg" for part in "ab" for label in ("cat", "dog") for n in "123"]
    error = ambiguous(names)
    assert [reading.value for reading in error.readings] == ["{label}/*", "{label}_#"]
    assert labels(names, pattern="{label}/*")["a/cat_1.jpg"] == ("a", None)
    assert labels(names, pattern="{label}_#")["a/cat_1.jpg"] == ("cat", None)


def test_names_that_agree_with_the_folders_change_nothing() -> None:
    names = [f"{label}/{label} ({n}).jpg" for label in ("Car", "Bike") for n in range(3)]
    assert {label for label, _ in labels(names).values()} == {"Car", "Bike"}


@pytest.mark.parametrize("stem", ["IMG_{}", "DSC{:04}", "photo ({})", "{}", "PXL_2023_{}"])
def test_names_that_cameras_give_are_no_classes(stem: str) -> None:
    names = [stem.format(n) + ".jpg" for n in range(6)]
    assert error_of(names).startswith("set: no class folders: expected <class>/<image>, or train/")


def test_a_pattern_names_split_and_group() -> None:
    names = ["train/p1_cat_1.jpg", "valid/p2_dog_1.jpg"]
    files = listing_of(names)
    dataset = DATASET.model_copy(update={"pattern": "{split}/{group}_{label}_#.jpg"})
    facts = list(choose_labels(files, dataset, "set").facts(files))
    assert [(fact.label, fact.split, fact.group) for fact in facts] == [  # type: ignore[union-attr]
        ("cat", "train", "p1"),
        ("dog", "val", "p2"),
    ]


@pytest.mark.parametrize(("on_disk", "given"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_pattern_matches_names_in_both_unicode_forms(on_disk: Form, given: Form) -> None:
    names = [normalize(on_disk, f"été/{label}_1.jpg") for label in ("chat", "é")]
    labelled = labels(names, pattern=normalize(given, "été/{label}_#"))
    assert [label for label, _ in labelled.values()] == ["chat", "é"]


def test_a_pattern_that_matches_nothing_is_refused_with_examples() -> None:
    assert error_of(["b.jpg", "a.jpg", "x.csv"], pattern="{label}.#") == (
        "set: the pattern {label}.# matches no file: there are a.jpg, b.jpg"
    )
