import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.choice import choose_labels
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from tests.builders.listings import labels_of, listing_of

DATASET = FolderDataset(kind="folder", description="d")
CLASSES = ("benign", "normal")


def labels(names: list[str], **keys: str) -> dict[str, str]:
    files = listing_of(names)
    read = choose_labels(files, DATASET.model_copy(update=keys), "set")
    return {name: label for name, (label, _) in labels_of(read, files).items()}


def check_asks(images: list[str], masks: list[str], problem: str) -> None:
    """Check that the first reading has the images alone, and the second the masks too."""
    names = images + masks
    with pytest.raises(AmbiguousLayoutError, match=problem) as caught:
        labels(names)
    alone, everything = (reading.value for reading in caught.value.readings)
    expected = {name: next(label for label in CLASSES if label in name) for name in names}
    assert labels(names, pattern=alone) == {name: expected[name] for name in images}
    assert labels(names, pattern=everything) == expected


@pytest.mark.parametrize("masks", ["masks", "mask", "Ground Truth", "overlay"])
@pytest.mark.parametrize("form", ["{0}/{1}/{0}-{2}", "x/train/{0}/{1}/{2}", "{0}/deep/{1}/{2}"])
def test_folders_of_masks_in_each_class(form: str, masks: str) -> None:
    images, others = (
        [form.format(label, folder, n) + ".png" for label in CLASSES for n in range(3)]
        for folder in ("images", masks)
    )
    check_asks(images, others, f"folders images and {masks} with files of the same names")


@pytest.mark.parametrize("form", ["{0} ({1})", "{1}", "{0}_{1}", "{0}-{1}", "{0}{1}"])
@pytest.mark.parametrize("mask", ["_mask", "_mask_1", " segmentation", "_GT"])
def test_names_of_masks_in_the_class_folders(form: str, mask: str) -> None:
    images = [f"{label}/{form.format(label, n)}.png" for label in CLASSES for n in range(3)]
    if mask == "_mask_1" and form in {"{0}_{1}", "{0}{1}"}:  # their masks fit any pattern too
        with pytest.raises(PipelineError, match="take the masks out of the class folders"):
            labels(images + [name.replace(".png", f"{mask}.png") for name in images])
        return
    masks = [name.replace(".png", f"{mask}.png") for name in images]
    check_asks(images, masks, "are those of others with an addition")


def test_masks_of_another_format_are_told_by_it() -> None:
    images = [f"{label}/{n}x.jpg" for label in CLASSES for n in range(3)]
    masks = [name.replace(".jpg", "_mask.png") for name in images]
    check_asks(images, masks, "are those of others with an addition")


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("{0}/{1}_{2}.png", "images/{label}_#"),  # Oxford Pets: great_pyrenees_1
        ("{0}/00{2}.{1}/{1}_{2}.png", "images/{label}/*"),  # Caltech-UCSD Birds
        ("x/{0}/{1}/a/{2}.png", "images/{label}/**"),
    ],
)
@pytest.mark.parametrize("masks", ["masks", "annotations/trimaps"])
def test_images_beside_masks_are_no_classes(form: str, pattern: str, masks: str) -> None:
    classes = ("great_pyrenees", "great_dane", "pug")
    images, others = (
        [form.format(folder, label, n) for label in classes for n in range(3)]
        for folder in ("images", masks)
    )
    problem = f"the folders images and {masks.partition('/')[0]} are images"
    with pytest.raises(AmbiguousLayoutError, match=problem) as caught:
        labels(images + others)
    alone, everything = (reading.value for reading in caught.value.readings)
    assert alone == pattern
    read = labels(images + others, pattern=alone)
    assert set(read) == set(images)
    if pattern == "images/{label}_#":
        assert set(read.values()) == set(classes)
    assert everything == "{label}/*"


def test_images_beside_masks_without_classes_in_their_names() -> None:
    names = [f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(3)]
    with pytest.raises(PipelineError, match="with a table or with pattern in") as caught:
        labels(names)
    assert not isinstance(caught.value, AmbiguousLayoutError)
    assert set(labels(names, pattern="{label}/*").values()) == {"images", "masks"}


@pytest.mark.parametrize(
    "names",
    [
        [f"{label}/{label}_{n}.png" for label in ("with_mask", "without_mask") for n in range(3)],
        [f"{label}/{n}.png" for label in ("mask", "face") for n in range(3)],
        [f"{label}/images/{n}.png" for label in CLASSES for n in range(3)],
    ],
)
def test_classes_of_masks_are_classes(names: list[str]) -> None:
    assert labels(names) == {name: name.split("/")[0] for name in names}
