from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.sources import contents
from pipeline.stages.acquire.sources.unused_splits import describe_unused_splits
from tests import ROOT

NAMES = ["Train/cat/1.jpg", "tset/dog/1.jpg", "cat/2.jpg"]


@pytest.mark.parametrize(
    ("splits", "used", "expected"),
    [
        ({}, {None}, []),
        ({"train": "train"}, {"train", None}, []),
        ({"train": "train", "training": "train"}, {"train"}, []),
        ({"a": "train", "b": "test"}, {None}, ["no image is in a, b, which splits of t names"]),
        ({"a": "train", "b": "test"}, {"train"}, ["no image is in b, which splits of t names"]),
    ],
)
def test_splits_without_images_are_mentioned(
    splits: dict[str, str], used: set[str | None], expected: list[str]
) -> None:
    assert describe_unused_splits(splits, used, NAMES, "t") == expected


def test_a_split_with_nearly_the_name_of_a_folder_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        describe_unused_splits({"train": "train", "test": "test"}, {"train"}, NAMES, "t.toml")
    assert str(caught.value) == (
        "t.toml: no image is in 'test', which splits names: did you mean the folder 'tset'?"
    )


def read(path: Path, **keys: object) -> None:
    dataset = FolderDataset.model_validate({"kind": "folder", "description": "d"} | keys)
    params = load_params(ROOT / "params.yaml").acquire
    list(contents.read_images(path, dataset, params, ClassNames("t.toml")))


def test_acquire_says_which_splits_of_dataset_toml_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(b"x")
    read(tmp_path)
    read(tmp_path, splits={})
    assert capsys.readouterr().out == ""
    read(tmp_path, splits={"train": "train", "val": "test"})
    assert capsys.readouterr().out == (
        "acquire: no image is in train, val, which splits of t.toml names\n"
    )
