"""The folder of the data set that the clean images belong to: its lists are appended to."""

import os
from pathlib import Path

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError


def find_dataset_folder(name: str, clean: Path) -> Path:
    """The folder of a data set, if the last run of filter wrote its images to `clean`.

    Args:
        name: dataset.name of params.yaml, which may be newer than the images.

    Raises:
        PipelineError: according to dvc.lock, the images belong, or may belong, to another data set.
    """
    lock = dvc_lock.read()
    outs = dvc_lock.outs(lock, "filter")
    if outs.pop(Path(os.path.relpath(clean)).as_posix(), None) is None:
        raise PipelineError(
            f"{clean} is not a folder that filter has written, according to dvc.lock: run "
            "`dvc repro filter`, or correct --clean"
        )
    last = dvc_lock.params(lock, "filter").get("dataset")
    last_name = last.get("name") if isinstance(last, dict) else None
    if last_name != name:
        raise PipelineError(
            f"{clean} has the images of data set {last_name!r}, according to dvc.lock, while "
            f"dataset.name is {name!r}: run `dvc repro`, or set dataset.name back"
        )
    # verdicts.csv stands for the images of the same run, whose digest takes minutes.
    for path, digest in outs.items():
        if not Path(path).is_file() or dvc_lock.digest(Path(path)) != digest:
            raise PipelineError(
                f"{path} is not that of the last run of filter, according to dvc.lock, so {clean} "
                "may have the images of another data set: run `dvc checkout` or `dvc repro`"
            )
    return Path("datasets", name)
