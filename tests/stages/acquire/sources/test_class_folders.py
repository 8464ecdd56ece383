from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.sources.class_folders import FolderLabel, is_hidden, label_folders

SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def label_paths(names: list[str], splits: dict[str, str]) -> dict[str, FolderLabel]:
    """The label of each name in a class folder."""
    labels = label_folders(lambda: iter(names), splits)
    return {name: label for name in names if (label := labels.find(name))}


def labels(names: list[str]) -> dict[str, tuple[str, str | None]]:
    return {
        name: (folder.label, folder.split) for name, folder in label_paths(names, SPLITS).items()
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat/1.jpg", "dog/1.jpg"], {"cat/1.jpg": ("cat", None), "dog/1.jpg": ("dog", None)}),
        (
            ["train/cat/1.jpg", "valid/cat/1.jpg", "test/dog/1.jpg"],
            {
                "train/cat/1.jpg": ("cat", "train"),
                "valid/cat/1.jpg": ("cat", "val"),
                "test/dog/1.jpg": ("dog", "test"),
            },
        ),
        (["train/cat/1.jpg"], {"train/cat/1.jpg": ("cat", "train")}),
        (
            ["a/b/cat/1.jpg", "a/b/dog/1.jpg"],
            {"a/b/cat/1.jpg": ("cat", None), "a/b/dog/1.jpg": ("dog", None)},
        ),
        (
            ["a/train/cat/1.jpg", "a/test/cat/2.jpg"],
            {"a/train/cat/1.jpg": ("cat", "train"), "a/test/cat/2.jpg": ("cat", "test")},
        ),
        (
            ["cat/1.jpg", "dog/sub/sub/1.jpg"],
            {"cat/1.jpg": ("cat", None), "dog/sub/sub/1.jpg": ("dog", None)},
        ),
        (["photos/1.jpg"], {"photos/1.jpg": ("photos", None)}),
        (
            ["./cat/1.jpg", "./dog/1.jpg"],
            {"./cat/1.jpg": ("cat", None), "./dog/1.jpg": ("dog", None)},
        ),
    ],
    ids=[
        "classes",
        "splits",
        "one split",
        "wrapped twice",
        "wrapped splits",
        "nested",
        "one class",
        "dot",
    ],
)
def test_labels_and_splits_follow_from_the_folders(
    names: list[str], expected: dict[str, tuple[str, str | None]]
) -> None:
    assert labels(names) == expected


def test_hidden_files_and_files_outside_class_folders_are_left_out() -> None:
    images = ["set/cat/1.jpg", "set/dog/1.jpg"]
    others = [
        "LICENCE",
        "set/readme.txt",
        "set/cat/.DS_Store",
        ".git/a/b",
        "__MACOSX/set/cat/1.jpg",
        "set/.thumbs/1.jpg",
        "../cat/1.jpg",
    ]
    assert list(label_paths(others + images, SPLITS)) == images


def test_files_beside_the_class_folders_of_a_split_are_left_out() -> None:
    names = ["train/cat/1.jpg", "train/index.csv", "test/cat/1.jpg", "notes.txt"]
    assert set(label_paths(names, SPLITS)) == {"train/cat/1.jpg", "test/cat/1.jpg"}


def test_the_folders_of_splits_can_be_configured() -> None:
    splits = {"val": "test", "train": "train"}
    assert label_paths(["val/ant/1.jpg", "train/bee/1.jpg"], splits) == {
        "val/ant/1.jpg": FolderLabel("ant", "test"),
        "train/bee/1.jpg": FolderLabel("bee", "train"),
    }


def test_without_splits_every_folder_is_a_class() -> None:
    labels = label_paths(["train/1.jpg", "boat/1.jpg"], {})
    assert labels == {
        "train/1.jpg": FolderLabel("train", None),
        "boat/1.jpg": FolderLabel("boat", None),
    }


@pytest.mark.parametrize("wrapping", ["", "set/"])
def test_splits_beside_other_folders_are_refused(wrapping: str) -> None:
    names = ["train/cat/1.jpg", "test/cat/1.jpg", "holdout/cat/1.jpg"]
    with pytest.raises(PipelineError) as caught:
        label_paths([wrapping + name for name in names], SPLITS)
    assert str(caught.value) == (
        "the folders test, train look like splits but are beside 'holdout': write pattern = "
        "'{label}/*' in dataset.toml if all of them are classes, or, if all of them are splits, "
        'which, such as splits = {"test" = "test", "train" = "train", "holdout" = "test"}'
    )


@pytest.mark.parametrize(
    ("names", "ending"),
    [
        ([], "there are no files"),
        (["1.jpg", "2.jpg"], "there are 1.jpg, 2.jpg"),
        (["train/1.jpg", "test/1.jpg"], "there are test/1.jpg, train/1.jpg"),
        ([".git/config/x"], "there are no files"),
    ],
)
def test_missing_class_folders_are_an_error_with_examples(names: list[str], ending: str) -> None:
    with pytest.raises(PipelineError) as caught:
        label_paths(names, SPLITS)
    assert str(caught.value).startswith("no class folders: expected <class>/<image>, or train/")
    assert str(caught.value).endswith(ending)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("a/.b/c", True),
        (".a", True),
        ("a/../b", True),
        ("a/b.c", False),
        ("__MACOSX/cat/._1.jpg", True),
        ("cat/._1.jpg", True),
        ("cat/.DS_Store", True),
        ("cat/Thumbs.db", True),
        ("cat/desktop.ini", True),
        ("cat/Icon\r", True),
        ("cat/.ipynb_checkpoints/1-checkpoint.jpg", True),
        ("cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", True),
        ("$RECYCLE.BIN/S-1-5/$R1.jpg", True),
        ("icon/1.jpg", False),
        ("cat/thumbs.jpg", False),
    ],
)
def test_hidden_paths_are_recognized(name: str, hidden: bool) -> None:
    assert is_hidden(name) is hidden


PART = st.sampled_from(["cat", "dog", "a.jpg", "b.png", "sub", "x y", "ü"])
PATH = st.lists(PART, min_size=1, max_size=4).map("/".join)
LISTING = st.lists(PATH, max_size=12, unique=True) | st.builds(
    lambda names: [f"{split}/{name}" for split, name in names],
    st.lists(st.tuples(st.sampled_from(["train", "test"]), PATH), max_size=12, unique=True),
)


@settings(derandomize=True, max_examples=100)
@given(LISTING, st.sampled_from(["set", "cat", "a/b", "x y"]))
def test_a_wrapping_folder_changes_nothing(names: list[str], wrapping: str) -> None:
    try:
        bare = label_paths(names, SPLITS)
    except PipelineError:
        return
    wrapped = label_paths([f"{wrapping}/{name}" for name in names], SPLITS)
    assert wrapped == {f"{wrapping}/{name}": label for name, label in bare.items()}


@settings(derandomize=True, max_examples=50)
@given(LISTING, st.randoms(use_true_random=False))
def test_the_order_of_the_names_does_not_matter(names: list[str], random: Random) -> None:
    def result(listing: list[str]) -> dict[str, FolderLabel] | str:
        try:
            return label_paths(listing, SPLITS)
        except PipelineError as error:
            return str(error)

    shuffled = list(names)
    random.shuffle(shuffled)
    assert result(shuffled) == result(names)


COMPOSED, DECOMPOSED = "\u00e9t\u00e9", "e\u0301te\u0301"


def test_split_and_wrapping_folders_are_the_same_in_every_unicode_form() -> None:
    names = [f"{DECOMPOSED}/train/cat/1.jpg", f"{COMPOSED}/test/dog/1.jpg"]
    labels = label_paths(names, SPLITS)
    assert [(label.label, label.split) for label in labels.values()] == [
        ("cat", "train"),
        ("dog", "test"),
    ]
    labels = label_paths(
        [f"{DECOMPOSED}/cat/1.jpg", f"train/{DECOMPOSED}/1.jpg"],
        {COMPOSED: "test", "train": "train"},
    )
    assert [label.split for label in labels.values()] == ["test", "train"]
    assert [label.label for label in labels.values()] == ["cat", DECOMPOSED]  # as it is spelt


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train2017/cat/1", "val2017/dog/1"], [("cat", "train"), ("dog", "val")]),
        (["a/training_set/cat/1", "a/test_set/dog/1"], [("cat", "train"), ("dog", "test")]),
        (
            ["training_set/training_set/a/1", "test_set/test_set/b/1"],
            [("a", "train"), ("b", "test")],
        ),
        (["train/train/a/1", "test/test/b/1"], [("a", "train"), ("b", "test")]),
        (["train/a/1", "test1/b/1"], [("a", "train"), ("b", "test")]),
        (["cat/train_images/1", "dog/test_images/1"], [("cat", "train"), ("dog", "test")]),
        (
            ["seg_pred/seg_pred/1", "seg_test/seg_test/sea/1", "seg_train/seg_train/sea/1"],
            [("sea", "test"), ("sea", "train")],
        ),
    ],
)
def test_split_folders_may_have_other_words_in_their_names(
    names: list[str], expected: list[tuple[str, str]]
) -> None:
    splits = SPLITS | {"training": "train"}
    read = label_paths(names, splits)
    assert [(label.label, label.split) for label in read.values()] == expected


@pytest.mark.parametrize(
    "folders",
    [
        ("bullet_train", "steam_train"),
        ("train_station", "test_tube"),
        ("express train", "car"),
        ("val_d_isere", "chamonix"),
        ("car_train", "car_test", "dog_train", "dog_test"),
    ],
)
def test_classes_may_have_the_word_of_a_split_in_their_names(folders: tuple[str, ...]) -> None:
    names = [f"{folder}/1.jpg" for folder in folders]
    assert labels(names) == {f"{folder}/1.jpg": (folder, None) for folder in folders}


def test_other_folders_with_classes_beside_split_folders_are_refused() -> None:
    with pytest.raises(PipelineError, match="look like splits but are beside 'more'"):
        labels(["seg_train/a/1.jpg", "seg_test/a/1.jpg", "more/a/1.jpg"])
