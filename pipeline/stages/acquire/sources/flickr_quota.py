"""Select exactly as many search results as wanted for each class and split.

Owners are assigned to splits, because the photographs of one owner look alike. A photograph that
cannot be fetched is replaced by the next result of its class and split.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import islice

from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.stable_hash import unit_interval
from pipeline.stages.acquire.dataset_toml import FlickrDataset, SplitName
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.content_store import StoredBody

Fetch = Callable[[list[Photo]], Iterable[tuple[Photo, StoredBody | SkipReason]]]
STEP = 500  # results that are read from a search at a time
MAX_FAILURES_IN_A_ROW = 64  # unreachable photographs, after which the stage fails


@dataclass(frozen=True)
class Selection:
    accepted: list[tuple[Photo, StoredBody]]
    rejected: list[tuple[Photo, SkipReason]]


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
        self._results: dict[str, list[Photo]] = {label: [] for label in searches}
        self._fetched: dict[str, StoredBody | SkipReason] = {}
        """By url."""

    def fill(self, fetch: Fetch) -> Selection:
        """Fetch until every quota is filled or its search ends.

        The selection depends on the results and on which URLs fail, not on timing.

        Raises:
            PipelineError: too many photographs in a row are unreachable.
        """
        while True:
            photos, rejected = self._select()
            short = [label for label, missing in self._count_missing(photos).items() if missing]
            if sum(self._read_results(label) for label in short):
                continue
            todo = [photo for photo in photos if photo.url not in self._fetched]
            if not todo:
                return Selection([(photo, self._body(photo)) for photo in photos], rejected)
            self._record(fetch(todo))
            # Try again, so that a short outage does not change the selection.
            if unreachable := [photo for photo in todo if self._is_unreachable(photo)]:
                self._record(fetch(unreachable))

    def _record(self, fetched: Iterable[tuple[Photo, StoredBody | SkipReason]]) -> None:
        in_a_row = 0
        for photo, result in fetched:
            self._fetched[photo.url] = result
            in_a_row = in_a_row + 1 if result == SkipReason.UNREACHABLE else 0
            if in_a_row == MAX_FAILURES_IN_A_ROW:
                raise PipelineError(
                    f"{in_a_row} photographs in a row are unreachable: is there a network? Try "
                    "again later; downloaded photographs are not fetched again"
                )

    def _is_unreachable(self, photo: Photo) -> bool:
        return self._fetched.get(photo.url) == SkipReason.UNREACHABLE

    def _body(self, photo: Photo) -> StoredBody:
        body = self._fetched[photo.url]
        assert isinstance(body, StoredBody)
        return body

    def _read_results(self, label: str) -> int:
        """Read further results of a search; return how many there were."""
        before = len(self._results[label])
        with bar(f"search {label}", STEP) as progress:
            for photo in islice(self._searches[label], STEP):
                self._results[label].append(photo)
                progress.update()
        return len(self._results[label]) - before

    def _select(self) -> tuple[list[Photo], list[tuple[Photo, SkipReason]]]:
        """Fill the quotas, assuming that every photograph not tried yet can be fetched."""
        labels_of: Counter[str | None] = Counter()
        for photos in self._results.values():
            labels_of.update(photo.id for photo in photos)
        accepted: list[Photo] = []
        rejected: list[tuple[Photo, SkipReason]] = []
        digests: set[str] = set()
        free = {label: dict(self._dataset.wanted) for label in self._results}
        for label, photos in self._results.items():
            for photo in photos:
                split = split_of(photo.group or "", self._dataset)
                if not free[label].get(split):
                    continue
                result = self._fetched.get(photo.url)
                if labels_of[photo.id] > 1 or photo.id in self._ambiguous_ids:
                    rejected.append((photo, SkipReason.TWO_CLASSES))
                elif isinstance(result, SkipReason):
                    rejected.append((photo, result))
                elif result is not None and result.sha256 in digests:
                    rejected.append((photo, SkipReason.REPEATED))
                else:
                    free[label][split] -= 1
                    accepted.append(photo.model_copy(update={"split": split}))
                    digests.update({result.sha256} if result else ())
        return accepted, rejected

    def _count_missing(self, photos: list[Photo]) -> dict[str, int]:
        counts = Counter(photo.label for photo in photos)
        total = sum(self._dataset.wanted.values())
        return {label: total - counts[label] for label in self._results}


def split_of(owner: str, dataset: FlickrDataset) -> SplitName:
    """Assign an owner to a split, in proportion to `wanted`."""
    # With a prefix: the split stage hashes the bare owner, and the two must be independent.
    position = unit_interval(f"flickr {owner}", dataset.seed) * sum(dataset.wanted.values())
    for split, number in dataset.wanted.items():
        position -= number
        if position < 0:
            return split
    return next(reversed(dataset.wanted))
