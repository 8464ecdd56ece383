from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import sha256
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.params import SplitParams
from pipeline.stages.acquire.dataset_toml import FlickrDataset, SearchTerms, SplitName
from pipeline.stages.acquire.photo_list import Photo
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.flickr_quota import (
    HOPELESS,
    STEP,
    Fetch,
    QuotaFiller,
    split_of,
)
from pipeline.stages.acquire.web.content_store import StoredBody
from pipeline.stages.split.assignment import assign
from pipeline.stages.split.groups import groups
from pipeline.stages.split.images import Image

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
LABELS = ("car", "bicycle")
Result = tuple[list[tuple[Photo, StoredBody]], list[tuple[Photo, SkipReason]]]


def dataset(seed: int = 1, **wanted: int) -> FlickrDataset:
    names: dict[str, SplitName] = {"train": "train", "val": "val", "test": "test"}
    return FlickrDataset(
        kind="flickr",
        description="d",
        seed=seed,
        classes={label: SearchTerms(text=label) for label in LABELS},
        wanted={names[name]: number for name, number in wanted.items()},
    )


def photo(number: int, label: str = "car", owner: str | None = None) -> Photo:
    url = f"http://h/{number}.jpg"
    return Photo(id=str(number), url=url, label=label, group=owner or f"owner {number}")


def fetching(
    gone: Collection[str] = (),
    same: dict[str, str] | None = None,
    asked: list[str] | None = None,
    reason: SkipReason = SkipReason.GONE,
) -> Fetch:
    """Photographs have their own bytes unless `same` says whose; those in `gone` have none."""

    def fetch(wanted: list[Photo]) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        for each in wanted:
            if asked is not None:
                asked.append(each.url)
            digest = sha256((same or {}).get(each.url, each.url).encode()).hexdigest()
            yield each, reason if each.url in gone else StoredBody(digest, "pack", 0, 1)

    return fetch


def collected(described: FlickrDataset, found: dict[str, list[Photo]], fetch: Fetch) -> Result:
    searches = {label: iter(photos) for label, photos in found.items()}
    return QuotaFiller(described, searches).fill(fetch)


def counts(result: Result) -> dict[tuple[str, str | None], int]:
    return Counter((photo.label, photo.split) for photo, _ in result[0])


def many(label: str, count: int, first: int = 0) -> list[Photo]:
    return [photo(number, label) for number in range(first, first + count)]


FOUND = {"car": many("car", 300), "bicycle": many("bicycle", 300, 1000)}


def test_exactly_what_is_wanted_is_chosen() -> None:
    result = collected(dataset(train=20, val=5, test=10), FOUND, fetching())
    assert counts(result) == {
        (label, split): number
        for label in LABELS
        for split, number in (("train", 20), ("val", 5), ("test", 10))
    }
    assert result[1] == []


def test_the_first_results_of_each_split_are_chosen_in_their_order() -> None:
    described = dataset(train=20, test=10)
    chosen, _ = collected(described, FOUND, fetching())
    expected = []
    for label in LABELS:
        left = Counter(train=20, test=10)
        for each in FOUND[label]:
            split = split_of(each.group or "", described)
            if left[split]:
                left[split] -= 1
                expected.append((each.id, split))
    assert [(photo.id, photo.split) for photo, _ in chosen] == expected


def test_each_chosen_photograph_comes_with_its_own_bytes() -> None:
    chosen, _ = collected(dataset(train=5, test=5), FOUND, fetching())
    for each, kept in chosen:
        assert kept.sha256 == sha256(each.url.encode()).hexdigest()


def test_no_more_is_asked_for_than_has_a_place() -> None:
    asked: list[str] = []
    chosen, _ = collected(dataset(train=20, test=10), FOUND, fetching(asked=asked))
    assert sorted(asked) == sorted(photo.url for photo, _ in chosen)


def test_nothing_is_asked_for_twice() -> None:
    asked: list[str] = []
    gone = {each.url for each in FOUND["car"][::2]}
    collected(dataset(train=40, test=20), FOUND, fetching(gone, asked=asked))
    assert len(set(asked)) == len(asked)


def test_a_place_of_what_is_gone_goes_to_the_next_of_its_split() -> None:
    described = dataset(train=20, test=10)
    first = collected(described, FOUND, fetching())
    (lost, _), *rest = first[0]
    chosen, refused = collected(described, FOUND, fetching({lost.url}))
    assert [(photo.id, reason) for photo, reason in refused] == [(lost.id, SkipReason.GONE)]
    assert counts((chosen, [])) == counts(first)
    assert {photo.id for photo, _ in rest} <= {photo.id for photo, _ in chosen}


def test_a_photograph_of_two_classes_is_in_neither() -> None:
    found = {
        "car": [photo(9007), *FOUND["car"]],
        "bicycle": [*FOUND["bicycle"], photo(9007, "bicycle")],
    }
    chosen, refused = collected(dataset(train=20), found, fetching())
    assert "9007" not in {photo.id for photo, _ in chosen}
    assert [(photo.id, photo.label, reason) for photo, reason in refused] == [
        ("9007", "car", SkipReason.TWO_CLASSES)
    ]
    assert set(counts((chosen, [])).values()) == {20}


def test_that_a_photograph_answers_two_classes_may_show_late() -> None:
    found = {"car": [photo(9007), *FOUND["car"]], "bicycle": many("bicycle", STEP, 1000)}
    gone = {each.url for each in found["bicycle"][1::2]}
    found["bicycle"] += [photo(9007, "bicycle"), *many("bicycle", 100, 5000)]
    chosen, _ = collected(dataset(train=300), found, fetching(gone))
    assert "9007" not in {photo.id for photo, _ in chosen}


def test_a_photograph_of_two_classes_is_never_asked_for() -> None:
    asked: list[str] = []
    found = {"car": [photo(9007)], "bicycle": [photo(9007, "bicycle")]}
    assert collected(dataset(train=1), found, fetching(asked=asked))[0] == []
    assert asked == []


def test_a_photograph_that_is_known_to_answer_another_class_is_left_out() -> None:
    known = FOUND["car"][0].id or ""
    searches = {label: iter(photos) for label, photos in FOUND.items()}
    chosen, refused = QuotaFiller(dataset(train=20), searches, {known}).fill(fetching())
    assert [(photo.id, reason) for photo, reason in refused] == [(known, SkipReason.TWO_CLASSES)]
    assert known not in {photo.id for photo, _ in chosen}


def test_that_may_become_known_while_searches_run() -> None:
    known: set[str] = set()

    def search() -> Iterator[Photo]:
        for each in FOUND["car"]:
            known.add(FOUND["car"][0].id or "")
            yield each

    searches = {"car": search(), "bicycle": iter(FOUND["bicycle"])}
    chosen, _ = QuotaFiller(dataset(train=20), searches, known).fill(fetching())
    assert not {photo.id for photo, _ in chosen} & known


@pytest.mark.parametrize("other", [("car", 1), ("bicycle", 1000)], ids=["own class", "other class"])
def test_the_same_bytes_are_taken_once(other: tuple[str, int]) -> None:
    label, number = other
    first, copy = photo(0), photo(number, label)
    chosen, refused = collected(dataset(train=20), FOUND, fetching(same={copy.url: first.url}))
    assert [(photo.id, reason) for photo, reason in refused] == [(copy.id, SkipReason.REPEATED)]
    assert len({kept.sha256 for _, kept in chosen}) == len(chosen) == 40


def test_too_few_results_give_fewer_photographs() -> None:
    found = {"car": many("car", 3), "bicycle": many("bicycle", 300, 1000)}
    result = collected(dataset(train=10), found, fetching())
    assert counts(result) == {("car", "train"): 3, ("bicycle", "train"): 10}


def test_no_results_give_no_photographs() -> None:
    assert collected(dataset(train=10), {"car": [], "bicycle": []}, fetching()) == ([], [])


def test_further_results_are_taken_where_the_first_do_not_do() -> None:
    found = {"car": many("car", 3 * STEP), "bicycle": many("bicycle", STEP, 10_000)}
    gone = {each.url for each in found["car"] if int(each.id or "") % 3}
    result = collected(dataset(train=STEP - 100), found, fetching(gone))
    assert set(counts(result).values()) == {STEP - 100}


def test_no_more_results_are_taken_than_needed() -> None:
    taken = Counter[str]()

    def search(label: str, first: int) -> Iterator[Photo]:
        for each in many(label, 10 * STEP, first):
            taken[label] += 1
            yield each

    searches = {"car": search("car", 0), "bicycle": search("bicycle", 100_000)}
    QuotaFiller(dataset(train=100, test=30), searches).fill(fetching())
    assert taken == {"car": STEP, "bicycle": STEP}


@pytest.mark.parametrize("first", [0, 20])
def test_nothing_but_silence_is_hopeless(first: int) -> None:
    asked: list[str] = []
    silent = {each.url for each in FOUND["car"][first:]}
    fetch = fetching(silent, asked=asked, reason=SkipReason.UNREACHABLE)
    with pytest.raises(PipelineError) as caught:
        collected(dataset(train=100), FOUND, fetch)
    assert str(caught.value).startswith("64 photographs in a row are unreachable: is there a")
    assert len(asked) == first + HOPELESS


def test_who_does_not_answer_at_first_keeps_the_place() -> None:
    silent = {each.url for each in FOUND["car"][10:30]}

    def fetch(wanted: list[Photo]) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        for each, result in fetching(silent, reason=SkipReason.UNREACHABLE)(wanted):
            yield each, result
            silent.discard(each.url)

    assert collected(dataset(train=100), FOUND, fetch) == collected(
        dataset(train=100), FOUND, fetching()
    )


@pytest.mark.parametrize("place", [0, 40, 63])
def test_one_success_among_the_first_is_hope(place: int) -> None:
    gone = {each.url for number, each in enumerate(FOUND["car"][:100]) if number != place}
    result = collected(dataset(train=120), FOUND, fetching(gone))
    assert set(counts(result).values()) == {120}


def test_fewer_failures_than_that_are_told_one_by_one() -> None:
    found = {"car": many("car", 63), "bicycle": []}
    chosen, refused = collected(dataset(train=100), found, fetching({p.url for p in found["car"]}))
    assert (len(chosen), len(refused)) == (0, 63)


OWNERS = st.integers(0, 12).map(lambda number: f"owner {number}")
SHAPES = st.lists(
    st.tuples(st.integers(0, 60), OWNERS, st.booleans()), max_size=60, unique_by=lambda one: one[0]
)
WANTED = st.fixed_dictionaries(
    {"train": st.integers(0, 8)}, optional={"val": st.integers(0, 4), "test": st.integers(0, 4)}
).filter(lambda wanted: any(wanted.values()))
World = tuple[dict[str, list[Photo]], set[str]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """What two searches find, some of it the same, and which addresses fail (below 64)."""
    found: dict[str, list[Photo]] = {}
    owners: dict[int, str] = {}
    gone: set[str] = set()
    for place, label in enumerate(LABELS):
        found[label] = []
        for number, owner, fails in draw(SHAPES):
            number += 50 * place  # the last ten of the first may be the first ten of the second
            owner = owners.setdefault(number, owner)
            found[label].append(photo(number, label, owner))
            if fails and len(gone) < HOPELESS - 1:
                gone.add(found[label][-1].url)
    return found, gone


@EXAMPLES
@given(worlds(), WANTED, st.integers(0, 9))
def test_counts_are_exact_wherever_there_are_enough(
    world: World, wanted: dict[str, int], seed: int
) -> None:
    found, gone = world
    described = dataset(seed, **wanted)
    result = collected(described, found, fetching(gone))
    both = {p.id for p in found["car"]} & {p.id for p in found["bicycle"]}
    for label, photos in found.items():
        for split, number in described.wanted.items():
            usable = [
                p
                for p in photos
                if p.id not in both
                and p.url not in gone
                and split_of(p.group or "", described) == split
            ]
            assert counts(result).get((label, split), 0) == min(number, len(usable))


@EXAMPLES
@given(worlds(), WANTED, st.integers(0, 9))
def test_an_owner_is_in_one_split_whatever_the_class(
    world: World, wanted: dict[str, int], seed: int
) -> None:
    found, gone = world
    chosen, _ = collected(dataset(seed, **wanted), found, fetching(gone))
    pairs = {(photo.group, photo.split) for photo, _ in chosen}
    assert len(pairs) == len({group for group, _ in pairs})


@EXAMPLES
@given(worlds(), WANTED, st.randoms(use_true_random=False))
def test_when_answers_come_does_not_matter(
    world: World, wanted: dict[str, int], random: Random
) -> None:
    found, gone = world
    described = dataset(**wanted)
    whole = fetching(gone)

    def piecemeal(todo: list[Photo]) -> Iterator[tuple[Photo, StoredBody | SkipReason]]:
        some = random.sample(todo, random.randint(1, len(todo)))
        return iter(whole(some))

    assert collected(described, found, piecemeal) == collected(described, found, whole)


@EXAMPLES
@given(worlds(), WANTED)
def test_everything_chosen_can_be_fetched_and_nothing_refused_is_chosen(
    world: World, wanted: dict[str, int]
) -> None:
    found, gone = world
    chosen, refused = collected(dataset(**wanted), found, fetching(gone))
    assert not {photo.url for photo, _ in chosen} & gone
    keys = [(p.label, p.id) for p, _ in chosen] + [(p.label, p.id) for p, _ in refused]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "wanted",
    [{"train": 1000, "test": 300}, {"train": 8, "val": 1, "test": 1}, {"val": 0, "test": 3}],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_owners_are_dealt_in_proportion_to_what_is_wanted(
    wanted: dict[str, int], seed: int
) -> None:
    described = dataset(seed, **wanted)
    dealt = Counter(split_of(f"{number}@N00", described) for number in range(10_000))
    for split, number in described.wanted.items():
        assert dealt[split] / 10_000 == pytest.approx(number / sum(wanted.values()), abs=0.015)


def test_another_seed_deals_owners_anew() -> None:
    owners = [f"{number}@N00" for number in range(100)]
    first, second = (
        [split_of(owner, dataset(seed, train=1, test=1)) for owner in owners] for seed in (1, 2)
    )
    assert first != second


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_split_stage_still_deals_those_who_train_by_another_chance(seed: int) -> None:
    """Else all who train would have small positions, or all large ones."""
    described = dataset(seed, train=1000, test=300)
    owners = [f"{number}@N00" for number in range(10_000)]
    splits = [split_of(owner, described) for owner in owners]
    chosen = SplitParams(
        seed=seed, val=0.2, test=0.3, train=None, prescribed=True, folds=None, fold=0, leaks="drop"
    )
    images = [
        Image(owner, owner, "car", split, None) for owner, split in zip(owners, splits, strict=True)
    ]
    dealt = assign(groups(owners, owners, [None] * len(owners)), images, chosen, {})
    after = [new for new, old in zip(dealt, splits, strict=True) if old == "train"]
    assert after.count("val") / len(after) == pytest.approx(0.2, abs=0.015)
    assert set(after) == {"train", "val"}


def test_the_same_search_twice_gives_the_same_photographs() -> None:
    gone = {each.url for each in islice(FOUND["car"], 0, None, 5)}
    first, second = (collected(dataset(train=90, test=9), FOUND, fetching(gone)) for _ in range(2))
    assert first == second
