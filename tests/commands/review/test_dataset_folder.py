import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.review.dataset_folder import find_dataset_folder
from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError

CLEAN, VERDICTS = Path("data/clean"), Path("data/verdicts.csv")


def write_lock(dataset: Any) -> None:
    """The dvc.lock and verdicts.csv of a run of filter with these params."""
    VERDICTS.parent.mkdir()
    VERDICTS.write_text("id\n")
    digests = {CLEAN: "0" * 32, VERDICTS: dvc_lock.digest(VERDICTS)}
    outs = [{"path": str(path), "md5": digest} for path, digest in digests.items()]
    stage = {"params": {"params.yaml": {"dataset": dataset}}, "outs": outs}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"filter": stage}}))


def test_the_folder_is_that_of_the_data_set_of_the_images(world: Path) -> None:
    write_lock({"name": "pets"})
    for clean in (CLEAN, Path("data/x/../clean"), world / CLEAN):
        assert find_dataset_folder("pets", clean) == Path("datasets/pets")


@pytest.mark.parametrize("dataset", [{"name": "cars"}, {}, "pets", None])
def test_images_of_another_data_set_are_refused(world: Path, dataset: Any) -> None:
    """As after a change of dataset.name in params.yaml, before `dvc repro`."""
    write_lock(dataset)
    name = dataset["name"] if dataset == {"name": "cars"} else None
    message = f"data/clean has the images of data set {name!r}, according to dvc.lock, while"
    with pytest.raises(PipelineError, match=re.escape(message)) as caught:
        find_dataset_folder("pets", CLEAN)
    assert "dataset.name is 'pets': run `dvc repro`" in str(caught.value)


def test_a_folder_that_filter_did_not_write_is_refused(world: Path) -> None:
    write_lock({"name": "pets"})
    with pytest.raises(PipelineError, match=r"^\.\./other/data/clean is not a folder that filter"):
        find_dataset_folder("pets", Path("../other/data/clean"))


def test_without_a_run_of_filter_nothing_is_appended(world: Path) -> None:
    with pytest.raises(PipelineError, match=r"^data/clean is not a folder that filter has written"):
        find_dataset_folder("pets", CLEAN)


@pytest.mark.parametrize("content", ["id\nother\n", None])
def test_images_of_another_run_are_refused(world: Path, content: str | None) -> None:
    """As after `git checkout` of a branch with another data set, before `dvc checkout`."""
    write_lock({"name": "pets"})
    VERDICTS.unlink()
    if content is not None:
        VERDICTS.write_text(content)
    with pytest.raises(PipelineError, match=r"^data/verdicts\.csv is not that of the last run"):
        find_dataset_folder("pets", CLEAN)
