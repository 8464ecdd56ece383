"""Select exactly as many search results as wanted for each class and split.

Owners are assigned to splits, because the photographs of one owner look alike. A photograph that
cannot be fetched is replaced by the next result of its class and split.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.stable_hash import unit_interval
from pipeline.datasets.dataset_toml import FlickrDataset
from pipeline.datasets.toml_values import SplitName
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.search_results import (
    FETCHED,
    NOT_TRIED,
    REASONS,
    Bools,
    Rows,
    SearchResults,
)
from pipeline.stages.acquire.web.content_store import StoredBody

Fetch = Callable[[Iterable[Photo], int], Iterable[tuple[Photo, StoredBody | SkipReason]]]
"""Yields every photograph of some, whose number is given, in their order."""
STEP = 500  # results that are read from a search at a time
MAX_FAILURES_IN_A_ROW = 64  # unreachable photographs, after which the stage fails


@dataclass(frozen=True)
class _Choice:
    """Which results of a search are used."""

    accepted: Rows
    rejected: Rows
    reasons: Rows
    """Of the rejected ones, positions in `REASONS`."""


class SelectedPhotos:
    """The photographs of all classes, class by class, best results first."""

    def __init__(
        self, results: Mapping[str, SearchResults], choices: Mapping[str, _Choice]
    ) -> None:
        self._results = results
        self._choices = choices

    def accepted(self) -> Iterator[tuple[Photo, StoredBody]]:
        """Those to use, with their splits."""
        for label, choice in self._choices.items():
            results = self._results[label]
            photos = results.photos(choice.accepted)
            yield from zip(photos, results.bodies(choice.accepted), strict=True)

    def rejected(self) -> Iterator[tuple[Photo, SkipReason]]:
        """Those before the last that is used which are not, each with the reason."""
        for label, choice in self._choices.items():
            photos = self._results[label].photos(choice.rejected, with_split=False)
            yield from zip(photos, map(REASONS.__getitem__, choice.reasons), strict=True)

    def count_accepted(self) -> Counter[str]:
        """By label."""
        return Counter({label: len(choice.accepted) for label, choice in self._choices.items()})

    def count_rejected(self) -> Counter[str]:
        """By reason."""
        reasons = (code for choice in self._choices.values() for code in choice.reasons)
        return Counter(REASONS[code].value for code in reasons)


class QuotaFiller:
    """Reads search results, fetches them, and fills the quota of each class and split."""

    def __init__(
        self,
        dataset: FlickrDataset,
        searches: Mapping[str, Iterator[Photo]],
        ambiguous_ids: Set[str] = frozenset(),
    ) -> None:
        """Start with no results.

        Args:
            searches: Label -> results, best first.
            ambiguous_ids: Photographs that match two classes; the set may grow during a search.
        """
        self._dataset = dataset
        self._searches = dict(searches)
        self._ambiguous_ids = ambiguous_ids
        self._results = {label: SearchResults(list(dataset.wanted)) for label in searches}

    def fill(self, fetch: Fetch) -> SelectedPhotos:
        """Fetch until every quota is filled or its search ends.

        The selection depends on the results and on which URLs fail, not on timing.

        Raises:
            PipelineError: too many photographs in a row are unreachable.
        """
        per_class = sum(self._dataset.wanted.values())
        while True:
            choices = self._select()
            short = [label for label, choice in choices.items() if len(choice.accepted) < per_class]
            if sum(self._read_results(label) for label in short):
                continue
            todo = self._with_outcome(choices, NOT_TRIED)
            if not todo:
                return SelectedPhotos(self._results, choices)
            self._fetch(todo, fetch)
            # Try again, so that a short outage does not change the selection.
            if unreachable := self._with_outcome(choices, REASONS.index(SkipReason.UNREACHABLE)):
                self._fetch(unreachable, fetch)

    def _with_outcome(self, choices: Mapping[str, _Choice], outcome: int) -> dict[str, Rows]:
        """The accepted rows of each search that have an outcome; searches without any left out."""
        rows = {
            label: choice.accepted[self._results[label].outcomes[choice.accepted] == outcome]
            for label, choice in choices.items()
        }
        return {label: of_label for label, of_label in rows.items() if len(of_label)}

    def _fetch(self, todo: Mapping[str, Rows], fetch: Fetch) -> None:
        """Fetch some rows of each search, and record what became of them."""
        photos = (
            photo for label, rows in todo.items() for photo in self._results[label].photos(rows)
        )
        places = ((self._results[label], row) for label, rows in todo.items() for row in rows)
        fetched = fetch(photos, sum(map(len, todo.values())))
        in_a_row = 0
        for (results, row), (_, outcome) in zip(places, fetched, strict=True):
            results.record(row, outcome)
            in_a_row = in_a_row + 1 if outcome == SkipReason.UNREACHABLE else 0
            if in_a_row == MAX_FAILURES_IN_A_ROW:
                raise PipelineError(
                    f"{in_a_row} photographs in a row are unreachable: is there a network? Try "
                    "again later; downloaded photographs are not fetched again"
                )

    def _read_results(self, label: str) -> int:
        """Read further results of a search; return how many there were."""
        results, before = self._results[label], len(self._results[label])
        with bar(f"search {label}", STEP) as progress:
            for photo in islice(self._searches[label], STEP):
                results.append(photo, split_of(photo.group or "", self._dataset))
                progress.update()
        return len(results) - before

    def _select(self) -> dict[str, _Choice]:
        """Fill the quotas, assuming that every photograph not tried yet can be fetched."""
        in_two_classes = self._in_two_classes()
        digests = np.concatenate([results.digests for results in self._results.values()])
        distinct, codes = np.unique(digests, return_inverse=True)
        is_used = bytearray(len(distinct))
        ends = np.cumsum([len(results) for results in self._results.values()])
        parts = zip(np.split(in_two_classes, ends[:-1]), np.split(codes, ends[:-1]), strict=True)
        return {
            label: self._choose(results, *part, is_used)
            for (label, results), part in zip(self._results.items(), parts, strict=True)
        }

    def _in_two_classes(self) -> Bools:
        """Whether each result, of all searches in turn, is one of another class too."""
        ids = pa.chunked_array(
            [chunk for results in self._results.values() for chunk in results.ids().chunks],
            pa.string(),
        )
        codes, _ = columns.encode(ids)
        ambiguous = columns.positions(ids, columns.texts(list(self._ambiguous_ids))) >= 0
        is_repeated: Bools = (np.bincount(codes + 1) > 1)[codes + 1] & (codes >= 0)
        return is_repeated | ambiguous

    def _choose(
        self, results: SearchResults, in_two_classes: Bools, digests: Rows, is_used: bytearray
    ) -> _Choice:
        """Which results of a search fill its quotas.

        Args:
            digests: A number for the bytes of each result, equal for equal bytes.
            is_used: By such a number, whether an accepted result has these bytes; it is updated.
        """
        free = list(self._dataset.wanted.values())
        accepted, rejected, reasons = [], [], []
        rows = zip(results.splits, in_two_classes, results.outcomes, digests, strict=True)
        for row, (split, in_two, outcome, digest) in enumerate(rows):
            if not free[split]:
                continue
            if in_two:
                reason = SkipReason.TWO_CLASSES
            elif outcome >= 0:
                reason = REASONS[outcome]
            elif outcome == FETCHED and is_used[digest]:
                reason = SkipReason.REPEATED
            else:
                free[split] -= 1
                accepted.append(row)
                is_used[digest] = int(outcome == FETCHED)
                continue
            rejected.append(row)
            reasons.append(REASONS.index(reason))
        return _Choice(*(np.array(rows, np.int64) for rows in (accepted, rejected, reasons)))


def split_of(owner: str, dataset: FlickrDataset) -> SplitName:
    """Assign an owner to a split, in proportion to `wanted`."""
    # With a prefix: the split stage hashes the bare owner, and the two must be independent.
    position = unit_interval(f"flickr {owner}", dataset.seed) * sum(dataset.wanted.values())
    for split, number in dataset.wanted.items():
        position -= number
        if position < 0:
            return split
    return next(reversed(dataset.wanted))
