from pathlib import Path

import pytest

from pipeline.commands.new.local import from_files
from pipeline.commands.new.request import Request
from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FolderDataset
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.sources.contents import read_images
from pipeline.stages.acquire.sources.untrained_classes import check_trained

CATS = 'if it is "cats", rename it, or write labels = {"cat" = "cats"} in dataset.toml'


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"cats": ["train"], "cat": ["test"]}, f'"cat" has images in test alone.*{CATS}'),
        ({"dog": ["train"], "unknown": ["val", "test"]}, '"unknown" has images in val and test'),
        ({"dog": ["train"], "x": ["val"], "y": ["val"]}, "and so have 1 others: put some into"),
        ({"dog": [None], "x": ["test"]}, '"x" has images in test alone'),
        ({"dog": ["train"], "cat": ["train", "test"], "x": [None, "test"]}, ""),
        ({"dog": ["test"], "cat": ["val"]}, ""),
    ],
)
def test_a_class_without_images_to_train_on_is_refused(
    splits: dict[str, list[str | None]], expected: str
) -> None:
    counts = {(name, split): 1 for name, of_class in splits.items() for split in of_class}
    same = {name: name for name in splits}
    if not expected:
        check_trained(counts, same, "set")
        return
    with pytest.raises(PipelineError) as caught:
        check_trained(counts, same, "set")
    for part in expected.split(".*"):
        assert part in str(caught.value)


def test_acquire_and_new_refuse_it_unless_labels_rename_it(tmp_path: Path) -> None:
    for folder in ("train/cats", "train/dog", "test/cat", "test/dog"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{folder[:2]}.jpg").write_bytes(b"x")
    with pytest.raises(PipelineError, match='"cat" has images in test alone'):
        from_files(Request("pets"), [str(tmp_path)])
    dataset = FolderDataset(kind="folder", description="d")
    params = load_params().acquire
    with pytest.raises(PipelineError, match='"cat" has images in test alone'):
        list(read_images(tmp_path, dataset, params, ClassNames()))
    renamed = ClassNames(renamed={"cat": "cats"})
    assert len(list(read_images(tmp_path, dataset, params, renamed))) == 4
