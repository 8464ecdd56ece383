import pytest

from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.album_names import is_album_name
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, DoubtfulClassesError
from tests.builders.listings import labels_of, listing_of

DATASET = FolderDataset(kind="folder", description="d")


def labels(content: list[str] | dict[str, bytes], **keys: str) -> dict[str, str]:
    files = listing_of(content)
    read = choose_labels(files, DATASET.model_copy(update=keys), "set")
    return {name: label for name, (label, _) in labels_of(read, files).items()}


def photos(*folders: str, name: str = "IMG_{}.jpg") -> list[str]:
    return [f"{folder}/{name.format(n)}" for folder in folders for n in range(3)]


@pytest.mark.parametrize(
    "folders",
    [
        ("DCIM/100APPLE", "DCIM/101APPLE"),
        ("100CANON", "100_PANA"),
        ("2023-01-05", "2023-01-06"),
        ("2023/01/05", "2023/02/05", "2024/02/01"),
        ("2023", "2024_12"),
        ("05.01.2023", "06.01.2023"),
        ("January 2023", "Mar 5, 2023"),
        ("Takeout/Google Photos/Photos from 2022", "Takeout/Google Photos/Photos from 2023"),
        ("Camera Roll", "Screenshots", "WhatsApp Images"),
        ("train/IMG_1", "train/IMG_2", "test/IMG_1"),
    ],
)
def test_folders_of_cameras_and_calendars_are_refused(folders: tuple[str, ...]) -> None:
    names = photos(*folders)
    with pytest.raises(DoubtfulClassesError) as caught:
        labels(names)
    assert "which may be no classes: sort the photographs into a folder for each" in str(
        caught.value
    )
    assert f"write {caught.value.reading.toml()} in dataset.toml" in str(caught.value)
    assert labels(names, pattern=caught.value.reading.value).keys() == set(names)


def test_folders_inside_those_of_a_calendar_may_be_the_classes() -> None:
    names = photos("2023-01-05/cat", "2023-01-06/dog")
    with pytest.raises(AmbiguousLayoutError) as caught:
        labels(names)
    inner, outer = (reading.value for reading in caught.value.readings)
    assert set(labels(names, pattern=inner).values()) == {"cat", "dog"}
    assert set(labels(names, pattern=outer).values()) == {"2023-01-05", "2023-01-06"}


def test_folders_of_a_camera_inside_classes_say_nothing() -> None:
    names = photos("cat/100APPLE", "cat/101APPLE", "dog/100APPLE", "dog/101APPLE")
    assert set(labels(names).values()) == {"cat", "dog"}


def test_one_such_folder_beside_classes_is_mentioned() -> None:
    files = listing_of(photos("cat", "dog", "Camera Roll"))
    notes = choose_labels(files, DATASET, "set").notes
    assert notes == ("Camera Roll may be no class by its name, but counts as one",)


def test_a_table_tells_the_classes_in_folders_of_a_camera() -> None:
    names = photos("DCIM/100APPLE", "DCIM/101APPLE", name="IMG_{}.jpg")
    rows = [f"{name},{'cat' if n % 2 else 'dog'}" for n, name in enumerate(names)]
    content = dict.fromkeys(names, b"") | {"t.csv": "\n".join(["file,label", *rows]).encode()}
    assert set(labels(content).values()) == {"cat", "dog"}


@pytest.mark.parametrize("content", [b"cat", b"dog"])
def test_files_beside_the_images_tell_the_classes(content: bytes) -> None:
    names = photos("100APPLE", "101APPLE")
    texts = {name.replace(".jpg", ".cls"): content for name in names[1:]}
    first = {names[0].replace(".jpg", ".cls"): b"bird"}
    assert set(labels(dict.fromkeys(names, b"") | texts | first).values()) == {
        "bird",
        content.decode(),
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "marble",
            "market",
            "junco",
            "mayfly",
            "decoy",
            "200",
            "0",
            "12345",
            "2023-13",
            "scanner",
        ),
        *("n02085620-Chihuahua", "001.Black_footed", "100apple pie", "Ford 2019", "camera bag"),
    ],
)
def test_other_names_are_those_of_classes(name: str) -> None:
    assert not is_album_name(name)
