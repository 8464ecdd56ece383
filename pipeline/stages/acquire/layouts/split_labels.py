"""Labels without splits, and lists that tell these."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.core.columns import Codes, Column
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts.labels import FileFacts, FileLabels
from pipeline.stages.acquire.layouts.split_lists import SplitList, SplitListReader
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable

NONE = -1
TRAIN = SPLITS.index("train")
REST = "all other images are of train"
IGNORE = "ignore_splits = true in dataset.toml says otherwise"
ADVICE = "a table with columns for file, label and split gives splits"


@dataclass(frozen=True)
class SplitLabels:
    """Labels by a layout, and splits by lists."""

    labels: FileLabels
    splits: Codes
    """Of each file, its position in SPLITS, or NONE."""
    lists: Collection[str]
    """The files that the splits come from."""
    notes: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Where the labels come from, for people."""
        return self.labels.origin

    @property
    def missing(self) -> Column:
        """Files that have a label, but are not there."""
        return self.labels.missing

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return self.labels.classes()

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out; None for a list."""
        rows = zip(files.names(), self.labels.facts(files), self.splits.tolist(), strict=True)
        for name, facts, split in rows:
            if isinstance(facts, FileFacts):
                yield facts if split == NONE else replace(facts, split=SPLITS[split])
            else:
                yield None if name in self.lists else facts


def add_splits(labels: FileLabels, files: FileTable, splits: Mapping[str, str]) -> FileLabels:
    """The labels with the splits of lists, if neither folders nor tables tell splits.

    The lists have to name each image with a label, or all but those of train. Others are mentioned.

    Args:
        splits: Name of a split -> split.
    """
    reader = SplitListReader(files, {to_nfc(name).lower(): split for name, split in splits.items()})
    is_labelled = _find_labelled(labels, files) if reader.candidates else None
    if is_labelled is None:
        return labels
    lists = reader.read(is_labelled)
    if not lists and not reader.problems:
        return labels
    of_files = np.full(len(files), NONE, np.int32)
    names = [part.name for part in lists]
    problem = _join(lists, of_files) or _fill(of_files, is_labelled)
    if lists and not problem and not reader.problems:  # else train might get what those list
        rest = "; " + REST if TRAIN not in np.concatenate([part.splits for part in lists]) else ""
        note = f"the splits come from {', '.join(names)}{rest}, unless {IGNORE}"
        others = [note for note in labels.notes if not any(name in note for name in names)]
        return SplitLabels(labels, of_files, frozenset(names), (*others, note))
    problems = [f"{', '.join(names)} {problem}"] if problem and lists else []
    notes = [
        f"{text}, so no list of splits is used: {ADVICE}" for text in [*problems, *reader.problems]
    ]
    return SplitLabels(labels, np.full(len(files), NONE, np.int32), (), (*labels.notes, *notes))


def _find_labelled(labels: FileLabels, files: FileTable) -> npt.NDArray[np.bool_] | None:
    """Whether each file is an image with a label; None if any has a split."""
    is_labelled = np.zeros(len(files), np.bool_)
    for position, facts in enumerate(labels.facts(files)):
        if isinstance(facts, FileFacts):
            if facts.split:
                return None
            is_labelled[position] = True
    return is_labelled


def _join(lists: Sequence[SplitList], of_files: Codes) -> str:
    """Write the split of each file; return why that cannot be, or nothing."""
    for part in lists:
        of_files[part.positions] = part.splits
    if any((of_files[part.positions] != part.splits).any() for part in lists):
        return "have images in several splits"
    return ""


def _fill(of_files: Codes, is_labelled: npt.NDArray[np.bool_]) -> str:
    """Put the other images into train, if no list is of train; else return why that cannot be."""
    rest = np.flatnonzero(is_labelled & (of_files == NONE))
    if len(rest) and (of_files == TRAIN).any():
        return f"lack {plural(len(rest), 'image')}"
    of_files[rest] = TRAIN
    return ""
