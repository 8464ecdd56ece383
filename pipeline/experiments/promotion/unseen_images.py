"""The test images that no model has seen, by the split that each was trained on."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.core import atomic, dvc_cache, file_digests, project
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, SplitTable, read_split
from pipeline.tracking import provenance, store
from pipeline.tracking.store import MlflowRun

SPLIT = Path("data/split.csv")
TEST = "test"
ARTIFACT = f"{provenance.FOLDER}/{SPLIT.name}"


def find_unseen(present: SplitTable, splits: Sequence[SplitTable]) -> dict[str, SplitRow]:
    """The test images, by id, that no model was trained or validated on.

    An image that was in a group with one that was (a copy, or a photograph of the same owner) is
    left out too, by the present groups and by those that each model was trained with.

    Args:
        present: Its test images are taken.
        splits: That of each model.
    """
    seen = {row.id for split in splits for row in split if row.split != TEST}
    related = seen | {key for split in (present, *splits) for key in _ids_beside(split, seen)}
    return {row.id: row for row in present if row.split == TEST and row.id not in related}


def _ids_beside(split: SplitTable, seen: Collection[str]) -> list[str]:
    """The images of the groups that have a seen one."""
    groups = {row.group for row in split if row.group and row.id in seen}
    return [row.id for row in split if row.group in groups]


def find_split(run: MlflowRun) -> Path:
    """The split.csv that a run's model was trained on: from here, DVC's cache, or the run.

    Raises:
        PipelineError: it is in none of these places.
    """
    digest = run.data.tags.get(provenance.digest_tag(str(SPLIT)), "")
    copy = project.cache() / "splits" / f"{run.info.run_id}.csv"
    cached = [dvc_cache.find_object(digest)] if file_digests.is_md5(digest) else []
    for path in (SPLIT, copy, *cached):
        if path.is_file() and file_digests.md5(path) == digest:
            return path
    try:
        atomic.write_text(copy, store.load_text(run.info.run_id, ARTIFACT))
        if file_digests.md5(copy) != digest:
            raise PipelineError(f"{ARTIFACT} of the run is another one")
    except PipelineError as error:
        raise PipelineError(
            f"the {SPLIT.name} of run {run.info.run_id[:8]}, which says what its model was trained "
            "on, is not in DVC's cache: `dvc fetch --all-branches --all-tags`, or decide yourself "
            "with --because TEXT"
        ) from error
    return copy


def read_test_set() -> SplitTable:
    """The present split, whose test images models are tested on.

    Raises:
        PipelineError: it is not here, or damaged.
    """
    if not SPLIT.exists():
        raise PipelineError(
            f"there is no {SPLIT} to test the models on: `dvc pull`, or `dvc repro`"
        )
    return read_split(SPLIT)
