import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from tests.builders.listings import labels_of, listing_of

DATASET = FolderDataset(kind="folder", description="d")


@pytest.mark.parametrize("folder", ["", "photos/"])
@pytest.mark.parametrize("form", ["{}_{}.jpg", "{}-{}.jpg", "{}{}.jpg", "{}_set_{}.jpg"])
def test_names_that_tell_splits_alone_are_refused(folder: str, form: str) -> None:
    names = [folder + form.format(split, n) for split in ("train", "test", "val") for n in "123"]
    with pytest.raises(
        PipelineError, match=r"set: the names of its files tell splits \(test.* no classes"
    ):
        choose_labels(listing_of(names), DATASET, "set")


@pytest.mark.parametrize("form", ["{split}_{label}_{n}.jpg", "{label}-{split} ({n}).jpg"])
def test_names_may_have_split_and_class(form: str) -> None:
    names = [
        form.format(split=split, label=label, n=n)
        for split in ("train", "test")
        for label in ("cat", "dog")
        for n in "123"
    ]
    files = listing_of(names)
    facts = labels_of(choose_labels(files, DATASET, "set"), files)
    assert sorted(set(facts.values())) == [
        ("cat", "test"),
        ("cat", "train"),
        ("dog", "test"),
        ("dog", "train"),
    ]


def test_names_of_splits_in_class_folders_change_nothing() -> None:
    names = [
        f"{label}/{split}_{n}.jpg" for label in "ab" for split in ("train", "test") for n in "12"
    ]
    assert choose_labels(listing_of(names), DATASET, "set").classes() == {"a", "b"}


def test_splits_may_be_classes_by_dataset_toml() -> None:
    names = [f"{label}_{n}.jpg" for label in ("train", "boat") for n in "123"]
    assert choose_labels(listing_of(names), DATASET, "set").classes() == {"train", "boat"}
    names = [f"{label}_{n}.jpg" for label in ("train", "test") for n in "123"]
    dataset = DATASET.model_copy(update={"splits": {}})
    assert choose_labels(listing_of(names), dataset, "set").classes() == {"train", "test"}


def test_a_class_called_after_a_split_is_no_split_by_a_pattern() -> None:
    names = [f"{label}/{n}.jpg" for label in ("test", "tube") for n in "12"]
    files = listing_of(names)
    dataset = DATASET.model_copy(update={"pattern": "{label}/*"})
    facts = labels_of(choose_labels(files, dataset, "set"), files)
    assert set(facts.values()) == {("test", None), ("tube", None)}


@pytest.mark.parametrize("name", ["train/cat/1.jpg", "cat/train/1.jpg"])
def test_a_folder_of_a_split_beside_the_label_of_a_pattern_counts(name: str) -> None:
    files = listing_of([name])
    dataset = DATASET.model_copy(update={"pattern": f"/{name.replace('cat', '{label}')[:-5]}*"})
    facts = labels_of(choose_labels(files, dataset, "set"), files)
    assert facts == {name: ("cat", "train")}


def test_an_unknown_split_in_the_place_of_a_pattern_is_refused() -> None:
    names = [f"{split}/{label}/1.jpg" for label in ("cat", "dog") for split in ("train", "extra")]
    dataset = DATASET.model_copy(update={"pattern": "/{split}/{label}/*"})
    with pytest.raises(PipelineError) as caught:
        choose_labels(listing_of(names), dataset, "set")
    assert str(caught.value) == (
        "'extra', in the place of {split} of /{split}/{label}/* in extra/cat/1.jpg, is no split: "
        'say which, such as splits = {"extra" = "train"} in dataset.toml'
    )
    known = dataset.model_copy(update={"splits": {"train": "train", "Extra": "val"}})
    assert choose_labels(listing_of(names), known, "set").classes() == {"cat", "dog"}
