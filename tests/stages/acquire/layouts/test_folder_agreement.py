from collections.abc import Mapping

import pytest

from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from tests.builders.listings import labels_of, listing_of

DATASET = FolderDataset(kind="folder", description="d")
PETS = {f"{label}/{label}{n}.jpg": b"" for label in ("cat", "dog") for n in range(3)}
TRAIN = {f"train/{name}": b"" for name in PETS}
FLAT_TEST = {f"test/t{n}.jpg": b"" for n in range(4)}


def labels(content: Mapping[str, bytes], **keys: object) -> dict[str, tuple[str, str | None]]:
    files = listing_of(content)
    read = choose_labels(files, DATASET.model_copy(update=keys), "set")
    by_file = labels_of(read, files)
    assert read.classes() == {label for label, _ in by_file.values()}
    return by_file


def csv(*rows: str) -> bytes:
    return "\n".join(["id,label", *rows]).encode()


def by_folders(names: Mapping[str, bytes], split: str | None) -> dict[str, tuple[str, str | None]]:
    return {name: (name.split("/")[-2], split) for name in names}


@pytest.mark.parametrize("rows", [["cat1,cat", "dog1,dog"], ["cat1,dog", "dog1,cat"], ["cat1,0"]])
@pytest.mark.parametrize("files", [PETS, TRAIN])
def test_a_table_of_some_images_in_class_folders_is_refused(
    files: Mapping[str, bytes], rows: list[str]
) -> None:
    content = {**files, "some.csv": csv(*rows)}
    with pytest.raises(AmbiguousLayoutError) as caught:
        labels(content)
    assert (
        f"labels {len(rows)} image{'s' * (len(rows) > 1)}, and its folders {6 - len(rows)} others"
    ) in str(caught.value)
    by_pattern, by_table = ({reading.key: reading.value} for reading in caught.value.readings)
    assert len(labels(content, **by_pattern)) == 6
    assert len(labels(content, **by_table)) == len(rows)


@pytest.mark.parametrize("table", ["test.csv", "test_labels.csv", "labels.csv"])
def test_a_table_of_a_flat_test_set_adds_to_the_class_folders_of_train(table: str) -> None:
    rows = [f"t{n},{label}" for n, label in enumerate(["cat", "dog"] * 2)]
    by_table = {f"test/t{n}.jpg": (label, "test") for n, label in enumerate(["cat", "dog"] * 2)}
    content = {**TRAIN, **FLAT_TEST, table: csv(*rows)}
    assert labels(content) == by_folders(TRAIN, "train") | by_table


@pytest.mark.parametrize("other", ["0", "bird"])
def test_a_table_of_a_test_set_with_other_classes_is_refused(other: str) -> None:
    content = {**TRAIN, **FLAT_TEST, "test.csv": csv("t0,cat", f"t1,{other}", f"t2,{other}")}
    with pytest.raises(AmbiguousLayoutError, match="labels 3 images, and its folders 6 others"):
        labels(content)


def test_a_table_of_one_split_adds_to_the_class_folders_of_the_others() -> None:
    test = {name.replace("train/", "test/").replace(".jpg", "x.jpg"): b"" for name in TRAIN}
    rows = [f"{name.split('/')[-1][:-4]},{name.split('/')[1] == 'dog':d}" for name in TRAIN]
    content = {**TRAIN, **test, "train.csv": csv(*rows)}
    assert labels(content) == by_folders(TRAIN, "train") | by_folders(test, "test")


def test_numbers_of_class_folders_do_not_replace_their_names() -> None:
    rows = [f"{name.split('/')[-1][:-4]},{name.startswith('dog'):d}" for name in PETS]
    assert labels({**PETS, "t.csv": csv(*rows)}) == by_folders(PETS, None)
    folders = {name.replace("cat/", "1/").replace("dog/", "2/"): b"" for name in PETS}
    assert {label for label, _ in labels({**folders, "t.csv": csv(*rows)}).values()} == {"0", "1"}


def test_splits_of_folders_count_beside_a_table_without_any() -> None:
    rows = [f"{name.split('/')[-1][:-4]},{name.split('/')[-2]}" for name in PETS]
    test = {name.replace("cat/", "test/cat/").replace("dog/", "train/dog/"): b"" for name in PETS}
    expected = {
        name: (label, "test" if label == "cat" else "train")
        for name, (label, _) in by_folders(test, None).items()
    }
    assert labels({**test, "t.csv": csv(*rows)}) == expected


def test_a_table_with_the_names_of_the_folders_exchanged_is_refused() -> None:
    rows = [f"{name.split('/')[-1][:-4]},{'cat' if 'dog' in name else 'dog'}" for name in PETS]
    with pytest.raises(AmbiguousLayoutError, match="tell different classes"):
        labels({**PETS, "t.csv": csv(*rows)})


def test_a_folder_of_images_beside_others_is_no_class() -> None:
    content = {f"images/{n}.jpg": b"" for n in range(4)} | {"extra/9.jpg": b""}
    table = csv("0,cat", "1,dog", "2,cat", "3,dog")
    assert [label for label, _ in labels({**content, "t.csv": table}).values()] == [
        "cat",
        "dog",
    ] * 2
