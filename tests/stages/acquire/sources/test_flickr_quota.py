from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.datasets.dataset_toml import FlickrDataset, SearchTerms
from pipeline.datasets.toml_values import SplitName
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.flickr_quota import (
    MAX_FAILURES_IN_A_ROW,
    STEP,
    Fetch,
    QuotaFiller,
    SelectedPhotos,
    split_of,
)
from pipeline.stages.acquire.web.content_store import StoredBody
from tests.builders import albums
from tests.builders.params import split_params

EXAMPLES = settings(derandomize=True, max_examples=100)
LABELS = ("car", "bicycle")


def make_dataset(seed: int = 1, **wanted: int) -> FlickrDataset:
    names: dict[str, SplitName] = {"train": "train", "val": "val", "test": "test"}
    return FlickrDataset(
        kind="flickr",
        description="d",
        seed=seed,
        classes={label: SearchTerms(text=label) for label in LABELS},
        wanted={names[name]: number for name, number in wanted.items()},
    )


def make_photo(number: int, label: str = "car", owner: str | None = None) -> Photo:
    url = f"http://h/{number}.jpg"
    return Photo(id=str(number), url=url, label=label, group=owner or f"owner {number}")


def make_photos(label: str, count: int, first: int = 0) -> list[Photo]:
    return [make_photo(number, label) for number in range(first, first + count)]


def fake_fetch(
    failing: Collection[str] = (),
    same_bytes: dict[str, str] | None = None,
    requested: list[str] | None = None,
    reason: SkipReason = SkipReason.GONE,
) -> Fetch:
    """Every url has its own bytes, except in `same_bytes`; those in `failing` have none."""

    def fetch(photos: Iterable[Photo], _: int) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        for photo in photos:
            if requested is not None:
                requested.append(photo.url)
            content = (same_bytes or {}).get(photo.url, photo.url)
            digest = sha256(content.encode()).hexdigest()
            yield photo, reason if photo.url in failing else StoredBody(digest, "pack", 0, 1)

    return fetch


@dataclass(frozen=True)
class Selected:
    """What `SelectedPhotos` yields."""

    accepted: list[tuple[Photo, StoredBody]]
    rejected: list[tuple[Photo, SkipReason]]


def listed(selection: SelectedPhotos) -> Selected:
    """A selection, whose counts are checked."""
    selected = Selected(list(selection.accepted()), list(selection.rejected()))
    labels = Counter(photo.label for photo, _ in selected.accepted)
    assert +selection.count_accepted() == labels
    reasons = Counter(reason.value for _, reason in selected.rejected)
    assert selection.count_rejected() == reasons
    return selected


def select(dataset: FlickrDataset, results: dict[str, list[Photo]], fetch: Fetch) -> Selected:
    searches = {label: iter(photos) for label, photos in results.items()}
    return listed(QuotaFiller(dataset, searches).fill(fetch))


def counts(selection: Selected) -> dict[tuple[str, str | None], int]:
    return Counter((photo.label, photo.split) for photo, _ in selection.accepted)


def accepted_ids(selection: Selected) -> list[str | None]:
    return [photo.id for photo, _ in selection.accepted]


def rejections(selection: Selected) -> list[tuple[str | None, SkipReason]]:
    return [(photo.id, reason) for photo, reason in selection.rejected]


RESULTS = {"car": make_photos("car", 300), "bicycle": make_photos("bicycle", 300, 1000)}


def test_every_quota_is_filled_exactly() -> None:
    selection = select(make_dataset(train=20, val=5, test=10), RESULTS, fake_fetch())
    assert counts(selection) == {
        (label, split): number
        for label in LABELS
        for split, number in (("train", 20), ("val", 5), ("test", 10))
    }
    assert selection.rejected == []


def test_the_first_results_of_each_split_are_accepted_in_order() -> None:
    dataset = make_dataset(train=20, test=10)
    selection = select(dataset, RESULTS, fake_fetch())
    expected = []
    for label in LABELS:
        free = Counter(train=20, test=10)
        for photo in RESULTS[label]:
            split = split_of(photo.group or "", dataset)
            if free[split]:
                free[split] -= 1
                expected.append((photo.id, split))
    assert [(photo.id, photo.split) for photo, _ in selection.accepted] == expected


def test_each_photograph_comes_with_its_own_bytes() -> None:
    selection = select(make_dataset(train=5, test=5), RESULTS, fake_fetch())
    for photo, body in selection.accepted:
        assert body.sha256 == sha256(photo.url.encode()).hexdigest()


def test_only_accepted_photographs_are_requested() -> None:
    requested: list[str] = []
    selection = select(make_dataset(train=20, test=10), RESULTS, fake_fetch(requested=requested))
    assert sorted(requested) == sorted(photo.url for photo, _ in selection.accepted)


def test_no_photograph_is_requested_twice() -> None:
    requested: list[str] = []
    failing = {photo.url for photo in RESULTS["car"][::2]}
    select(make_dataset(train=40, test=20), RESULTS, fake_fetch(failing, requested=requested))
    assert len(set(requested)) == len(requested)


def test_a_failed_photograph_is_replaced_by_the_next_of_its_split() -> None:
    dataset = make_dataset(train=20, test=10)
    before = select(dataset, RESULTS, fake_fetch())
    lost = before.accepted[0][0]
    after = select(dataset, RESULTS, fake_fetch({lost.url}))
    assert rejections(after) == [(lost.id, SkipReason.GONE)]
    assert counts(after) == counts(before)
    assert set(accepted_ids(before)[1:]) <= set(accepted_ids(after))


def test_a_photograph_of_two_classes_is_in_neither() -> None:
    results = {
        "car": [make_photo(9007), *RESULTS["car"]],
        "bicycle": [*RESULTS["bicycle"], make_photo(9007, "bicycle")],
    }
    selection = select(make_dataset(train=20), results, fake_fetch())
    assert "9007" not in accepted_ids(selection)
    assert [(photo.id, photo.label, reason) for photo, reason in selection.rejected] == [
        ("9007", "car", SkipReason.TWO_CLASSES)
    ]
    assert set(counts(selection).values()) == {20}


def test_a_second_class_may_show_up_in_later_results() -> None:
    results = {"car": [make_photo(9007), *RESULTS["car"]]}
    results["bicycle"] = make_photos("bicycle", STEP, 1000)
    failing = {photo.url for photo in results["bicycle"][1::2]}
    results["bicycle"] += [make_photo(9007, "bicycle"), *make_photos("bicycle", 100, 5000)]
    selection = select(make_dataset(train=300), results, fake_fetch(failing))
    assert "9007" not in accepted_ids(selection)


def test_a_photograph_of_two_classes_is_not_requested() -> None:
    requested: list[str] = []
    results = {"car": [make_photo(9007)], "bicycle": [make_photo(9007, "bicycle")]}
    fetch = fake_fetch(requested=requested)
    assert select(make_dataset(train=1), results, fetch).accepted == []
    assert requested == []


def test_ambiguous_ids_may_be_added_while_searches_run() -> None:
    ambiguous_ids: set[str] = set()

    def search() -> Iterator[Photo]:
        for photo in RESULTS["car"]:
            ambiguous_ids.add(RESULTS["car"][0].id or "")
            yield photo

    searches = {"car": search(), "bicycle": iter(RESULTS["bicycle"])}
    filler = QuotaFiller(make_dataset(train=20), searches, ambiguous_ids)
    selection = listed(filler.fill(fake_fetch()))
    assert rejections(selection) == [(RESULTS["car"][0].id, SkipReason.TWO_CLASSES)]
    assert not set(accepted_ids(selection)) & ambiguous_ids


@pytest.mark.parametrize("copy", [make_photo(1), make_photo(1000, "bicycle")], ids=LABELS)
def test_the_same_bytes_are_accepted_once(copy: Photo) -> None:
    fetch = fake_fetch(same_bytes={copy.url: RESULTS["car"][0].url})
    selection = select(make_dataset(train=20), RESULTS, fetch)
    assert rejections(selection) == [(copy.id, SkipReason.REPEATED)]
    digests = {body.sha256 for _, body in selection.accepted}
    assert len(digests) == len(selection.accepted) == 40


def test_too_few_results_give_fewer_photographs() -> None:
    results = {"car": make_photos("car", 3), "bicycle": make_photos("bicycle", 300, 1000)}
    selection = select(make_dataset(train=10), results, fake_fetch())
    assert counts(selection) == {("car", "train"): 3, ("bicycle", "train"): 10}


def test_no_results_give_no_photographs() -> None:
    results: dict[str, list[Photo]] = {"car": [], "bicycle": []}
    assert select(make_dataset(train=10), results, fake_fetch()) == Selected([], [])


def test_further_results_are_read_if_the_first_are_too_few() -> None:
    results = {
        "car": make_photos("car", 3 * STEP),
        "bicycle": make_photos("bicycle", STEP, 10_000),
    }
    failing = {photo.url for photo in results["car"] if int(photo.id or "") % 3}
    selection = select(make_dataset(train=STEP - 100), results, fake_fetch(failing))
    assert set(counts(selection).values()) == {STEP - 100}


def test_no_more_results_are_read_than_needed() -> None:
    read = Counter[str]()

    def search(label: str, first: int) -> Iterator[Photo]:
        for photo in make_photos(label, 10 * STEP, first):
            read[label] += 1
            yield photo

    searches = {"car": search("car", 0), "bicycle": search("bicycle", 100_000)}
    QuotaFiller(make_dataset(train=100, test=30), searches).fill(fake_fetch())
    assert read == {"car": STEP, "bicycle": STEP}


@pytest.mark.parametrize("first", [0, 20])
def test_too_many_unreachable_photographs_in_a_row_are_an_error(first: int) -> None:
    requested: list[str] = []
    unreachable = {photo.url for photo in RESULTS["car"][first:]}
    fetch = fake_fetch(unreachable, requested=requested, reason=SkipReason.UNREACHABLE)
    with pytest.raises(PipelineError, match="64 photographs in a row are unreachable"):
        select(make_dataset(train=100), RESULTS, fetch)
    assert len(requested) == first + MAX_FAILURES_IN_A_ROW


def test_a_photograph_that_is_unreachable_once_is_still_accepted() -> None:
    unreachable = {photo.url for photo in RESULTS["car"][10:30]}

    def fetch(
        photos: Iterable[Photo], total: int
    ) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        failing_fetch = fake_fetch(unreachable, reason=SkipReason.UNREACHABLE)
        for photo, result in failing_fetch(photos, total):
            yield photo, result
            unreachable.discard(photo.url)

    dataset = make_dataset(train=100)
    assert select(dataset, RESULTS, fetch) == select(dataset, RESULTS, fake_fetch())


def test_photographs_that_are_gone_do_not_count_as_unreachable() -> None:
    failing = {photo.url for photo in RESULTS["car"][:100]}
    selection = select(make_dataset(train=120), RESULTS, fake_fetch(failing))
    assert set(counts(selection).values()) == {120}


def test_fewer_failures_than_the_limit_are_listed() -> None:
    results = {"car": make_photos("car", 63), "bicycle": []}
    fetch = fake_fetch({photo.url for photo in results["car"]})
    selection = select(make_dataset(train=100), results, fetch)
    assert (len(selection.accepted), len(selection.rejected)) == (0, 63)


OWNERS = st.integers(0, 12).map(lambda number: f"owner {number}")
ENTRIES = st.lists(
    st.tuples(st.integers(0, 60), OWNERS, st.booleans()),
    max_size=60,
    unique_by=lambda entry: entry[0],
)
WANTED = st.fixed_dictionaries(
    {"train": st.integers(0, 8)}, optional={"val": st.integers(0, 4), "test": st.integers(0, 4)}
).filter(lambda wanted: any(wanted.values()))
World = tuple[dict[str, list[Photo]], set[str]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Results of two searches, some in both, and the urls that fail (fewer than 64)."""
    results: dict[str, list[Photo]] = {}
    owners: dict[int, str] = {}
    failing: set[str] = set()
    for position, label in enumerate(LABELS):
        results[label] = []
        for number, owner, fails in draw(ENTRIES):
            number += 50 * position  # numbers 50 to 60 may be in both searches
            owner = owners.setdefault(number, owner)
            results[label].append(make_photo(number, label, owner))
            if fails and len(failing) < MAX_FAILURES_IN_A_ROW - 1:
                failing.add(results[label][-1].url)
    return results, failing


@EXAMPLES
@given(worlds(), WANTED, st.integers(0, 9))
def test_quotas_are_filled_with_usable_photographs(
    world: World, wanted: dict[str, int], seed: int
) -> None:
    results, failing = world
    dataset = make_dataset(seed, **wanted)
    selection = select(dataset, results, fake_fetch(failing))
    in_both = {photo.id for photo in results["car"]} & {photo.id for photo in results["bicycle"]}
    for label, photos in results.items():
        for split, number in dataset.wanted.items():
            usable = [
                photo
                for photo in photos
                if photo.id not in in_both
                and photo.url not in failing
                and split_of(photo.group or "", dataset) == split
            ]
            assert counts(selection).get((label, split), 0) == min(number, len(usable))
    # An owner is in one split, whatever the class.
    pairs = {(photo.group, photo.split) for photo, _ in selection.accepted}
    assert len(pairs) == len({group for group, _ in pairs})
    # Nothing is both accepted and rejected, and nothing that fails is accepted.
    assert not {photo.url for photo, _ in selection.accepted} & failing
    entries = [photo for photo, _ in [*selection.accepted, *selection.rejected]]
    assert len({(photo.label, photo.id) for photo in entries}) == len(entries)


@EXAMPLES
@given(worlds(), WANTED, st.integers(0, 9))
def test_which_photographs_fail_decides_and_not_when_they_are_fetched(
    world: World, wanted: dict[str, int], seed: int
) -> None:
    """Photographs whose first try fails like an outage are selected like the others."""
    results, failing = world
    dataset, outages = make_dataset(seed, **wanted), Counter[str]()

    def fetch(
        photos: Iterable[Photo], total: int
    ) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        for photo, result in fake_fetch(failing)(photos, total):
            outages[photo.url] += 1
            is_out = outages[photo.url] == 1 and int(photo.id or "") % 2
            yield photo, SkipReason.UNREACHABLE if is_out else result

    assert select(dataset, results, fetch) == select(dataset, results, fake_fetch(failing))


@pytest.mark.parametrize(
    "wanted",
    [{"train": 1000, "test": 300}, {"train": 8, "val": 1, "test": 1}, {"val": 0, "test": 3}],
)
def test_owners_are_assigned_in_proportion_to_the_wanted_numbers(wanted: dict[str, int]) -> None:
    dataset = make_dataset(1, **wanted)
    splits = Counter(split_of(f"{number}@N00", dataset) for number in range(10_000))
    for split, number in dataset.wanted.items():
        assert splits[split] / 10_000 == pytest.approx(number / sum(wanted.values()), abs=0.015)


def test_another_seed_assigns_owners_differently() -> None:
    owners = [f"{number}@N00" for number in range(100)]
    first, second = (
        [split_of(owner, make_dataset(seed, train=1, test=1)) for owner in owners]
        for seed in (1, 2)
    )
    assert first != second


def test_the_split_stage_splits_the_training_images_independently() -> None:
    """With the same hash, all owners in train would have small positions, or all large ones."""
    dataset = make_dataset(1, train=1000, test=300)
    owners = [f"{number}@N00" for number in range(10_000)]
    splits = [split_of(owner, dataset) for owner in owners]
    album = [
        albums.Photo(owner, "car", owner, prescribed=split)
        for owner, split in zip(owners, splits, strict=True)
    ]
    assigned = albums.assign_album(album, split_params()).values()
    after = [new for new, old in zip(assigned, splits, strict=True) if old == "train"]
    assert after.count("val") / len(after) == pytest.approx(0.2, abs=0.015)
    assert set(after) == {"train", "val"}


def test_the_same_search_gives_the_same_selection() -> None:
    failing = {photo.url for photo in islice(RESULTS["car"], 0, None, 5)}
    dataset = make_dataset(train=90, test=9)
    first, second = (select(dataset, RESULTS, fake_fetch(failing)) for _ in range(2))
    assert first == second
