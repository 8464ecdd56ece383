"""From what a search finds to exactly the photographs that are wanted, dealt to their splits.

Owners, not photographs, are dealt: their pictures resemble each other. A place that falls to a
photograph which cannot be fetched goes to the next that the search found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice

from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.stable_hash import unit_interval
from pipeline.stages.acquire.dataset_toml import FlickrDataset, SplitName
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.content_store import StoredBody

Fetch = Callable[[list[Photo]], Iterable[tuple[Photo, StoredBody | SkipReason]]]
STEP = 500  # results that are taken from a search at a time
HOPELESS = 64  # photographs in a row without an answer, after which nobody goes on


class QuotaFiller:
    """The state of a search: what was found, what was fetched, and who has which place."""

    def __init__(
        self,
        dataset: FlickrDataset,
        searches: Mapping[str, Iterator[Photo]],
        contested: Set[str] = frozenset(),
    ) -> None:
        """`contested`: ids that are known to answer two classes; it may grow while searches run."""
        self._dataset = dataset
        self._searches = dict(searches)
        self._contested = contested
        self._found: dict[str, list[Photo]] = {label: [] for label in searches}
        self._fetched: dict[str, StoredBody | SkipReason] = {}
        """By url."""

    def fill(
        self, fetch: Fetch
    ) -> tuple[list[tuple[Photo, StoredBody]], list[tuple[Photo, SkipReason]]]:
        """The photographs that have a place, with where they are, and those that were left out.

        Both depend on what the searches and the addresses answer, and not on when they do.

        Raises:
            PipelineError: nothing can be fetched.
        """
        while True:
            chosen, refused = self._deal()
            short = [label for label in self._searches if self._missing(chosen)[label]]
            if sum(self._extend(label) for label in short):
                continue
            todo = [photo for photo in chosen if photo.url not in self._fetched]
            if not todo:
                return [(photo, self._kept(photo)) for photo in chosen], refused
            self._take(fetch(todo))
            # Once more: what does not answer just now should not change what is chosen.
            if again := [photo for photo in todo if self._is_unreachable(photo)]:
                self._take(fetch(again))

    def _take(self, fetched: Iterable[tuple[Photo, StoredBody | SkipReason]]) -> None:
        in_a_row = 0
        for photo, result in fetched:
            self._fetched[photo.url] = result
            in_a_row = in_a_row + 1 if result == SkipReason.UNREACHABLE else 0
            if in_a_row == HOPELESS:
                raise PipelineError(
                    f"{HOPELESS} photographs in a row are unreachable: is there a network? Try "
                    "again later; what came is kept"
                )

    def _is_unreachable(self, photo: Photo) -> bool:
        return self._fetched.get(photo.url) == SkipReason.UNREACHABLE

    def _kept(self, photo: Photo) -> StoredBody:
        kept = self._fetched[photo.url]
        assert isinstance(kept, StoredBody)
        return kept

    def _extend(self, label: str) -> int:
        before = len(self._found[label])
        with bar(f"search {label}", STEP) as shown:
            for photo in islice(self._searches[label], STEP):
                self._found[label].append(photo)
                shown.update()
        return len(self._found[label]) - before

    def _deal(self) -> tuple[list[Photo], list[tuple[Photo, SkipReason]]]:
        """Who has a place, if all that was not fetched yet can be."""
        labels_of: Counter[str | None] = Counter()
        for photos in self._found.values():
            labels_of.update(photo.id for photo in photos)
        chosen: list[Photo] = []
        refused: list[tuple[Photo, SkipReason]] = []
        taken: set[str] = set()
        free = {label: dict(self._dataset.wanted) for label in self._found}
        for label, photos in self._found.items():
            for photo in photos:
                split = split_of(photo.group or "", self._dataset)
                if not free[label].get(split):
                    continue
                result = self._fetched.get(photo.url)
                if labels_of[photo.id] > 1 or photo.id in self._contested:
                    refused.append((photo, SkipReason.TWO_CLASSES))
                elif isinstance(result, SkipReason):
                    refused.append((photo, result))
                elif result is not None and result.sha256 in taken:
                    refused.append((photo, SkipReason.REPEATED))
                else:
                    free[label][split] -= 1
                    chosen.append(photo.model_copy(update={"split": split}))
                    taken.update({result.sha256} if result else ())
        return chosen, refused

    def _missing(self, chosen: list[Photo]) -> dict[str, int]:
        counts = Counter(photo.label for photo in chosen)
        total = sum(self._dataset.wanted.values())
        return {label: total - counts[label] for label in self._found}


def split_of(owner: str, dataset: FlickrDataset) -> SplitName:
    """The split that all photographs of an owner go to, in proportion to what is wanted."""
    # Not the bare owner: the split stage deals by that, and chance must not be used twice.
    place = unit_interval(f"flickr {owner}", dataset.seed) * sum(dataset.wanted.values())
    for split, number in dataset.wanted.items():
        place -= number
        if place < 0:
            return split
    return next(reversed(dataset.wanted))
