"""Images that a scheduled acquisition brought, against those that the reference was trained on."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.commands.ci.ci_run import Reference
from pipeline.commands.drift.comparison import compare_samples
from pipeline.commands.drift.known_images import DataFolders, KnownImages
from pipeline.commands.drift.sample import Rows
from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import SplitTable, read_split

LEVEL = 0.01  # of a false alarm


def describe_new_images(reference: Reference, folders: DataFolders | None = None) -> list[str]:
    """Sentences on whether images that the reference lacks are like its training images.

    Empty without a reference, or if its data set has no images of this one.
    """
    folders = folders or DataFolders()
    if reference.revision is None:
        return []
    try:
        before = _parse_split(reference.read_split())
        now = read_split(folders.split_csv)
        count = int((columns.positions(now.ids, before.ids) < 0).sum())
        if count in (0, len(now)):
            return []
        return _compare(before, folders, count, reference.title)
    except PipelineError as error:
        return [f"New images are not compared with those of {reference.title}: {error}."]


def _parse_split(text: str) -> SplitTable:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "split.csv")
        path.write_text(text, encoding="utf-8")
        return read_split(path)


def _compare(before: SplitTable, folders: DataFolders, count: int, title: str) -> list[str]:
    """Compare the images that `before` lacks with its training images.

    Their labels are known, so the test measures the accuracy: it is not estimated.
    """
    known = KnownImages(folders)
    places = columns.positions(known.examples.ids, before.ids)
    splits = columns.positions(before.splits, columns.texts(SPLITS))
    split_of = np.append(splits, -1)[places]  # of a new image: -1, as the place is

    def sample_rows(mask: npt.NDArray[np.bool_]) -> Rows:
        rows = np.flatnonzero(mask).astype(np.int64)
        if not len(rows):
            raise PipelineError("no training images or no others of then are left")
        return known.thin(rows)

    training, held_out, new = (
        known.sample(sample_rows(mask)) for mask in (split_of == 0, split_of > 0, places < 0)
    )
    comparison = compare_samples(training, held_out, new, LEVEL)
    arrived = f"New since {title}: {plural(count, 'image')}."
    return [arrived, *comparison.sentences()]
