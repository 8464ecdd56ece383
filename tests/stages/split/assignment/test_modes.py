"""assign() on whole albums: invariants for any images and params."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.params import SplitParams
from pipeline.stages.split import leaks
from pipeline.stages.split.assignment import modes
from tests.builders.albums import (
    SPLIT_PARAMS,
    Photo,
    Splits,
    assign_album,
    count_shares,
    images_and_groups,
    singles,
)
from tests.builders.params import split_params

EXAMPLES = settings(derandomize=True, max_examples=60)

PRESCRIBED = st.sampled_from([None, "train", "val", "test"])


# One draw for all three is faster; half of the photos have no owner, and half no scene.
KINDS = st.sampled_from(
    [
        (label, owner, like)
        for owner in [*[None] * 6, "ann", "bob", "cid", "dot", "eve", "flo"]
        for like in [*[None] * 6, *"pqrstu"]
        for label in ("cat", "dog")
    ]
)


def build_photo(values: tuple[int, tuple[str, str | None, str | None], str | None]) -> Photo:
    number, (label, owner, like), prescribed = values
    return Photo(f"{number:03d}", label, owner, like, prescribed)


def photos(prescribed: st.SearchStrategy[str | None], max_size: int = 25) -> Any:
    return st.lists(
        st.tuples(st.integers(0, 999), KINDS, prescribed).map(build_photo),
        max_size=max_size,
        unique_by=lambda photo: photo.id,
    )


SEEDS = st.integers(0, 99)

SHARES = st.builds(split_params, seed=SEEDS, val=st.floats(0.05, 0.45), test=st.floats(0.05, 0.45))

NUMBERS = st.builds(
    split_params,
    seed=SEEDS,
    val=st.integers(1, 2),
    test=st.integers(1, 2),
    train=st.none() | st.integers(1, 2),
)

FOLDS = st.builds(split_params, seed=SEEDS, folds=st.just(3), fold=st.integers(0, 2))

MODES = {
    "shares": (SHARES, PRESCRIBED),
    "numbers": (NUMBERS, PRESCRIBED),
    "folds": (FOLDS, st.none()),
    "folds of what was prescribed": (
        st.builds(split_params, seed=SEEDS, folds=st.just(3), prescribed=st.just(False)),
        PRESCRIBED,
    ),
}


def assign_by_chance(
    album: Sequence[Photo], params: SplitParams, before: Mapping[str, str | None] = {}
) -> Splits:
    """Without the moves that put every class into every split: these have tests of their own."""
    with patch.object(modes, "cover_classes", lambda assigned, *_: assigned):
        return assign_album(album, params, before)


def straddling(album: Sequence[Photo], splits: Splits) -> list[str]:
    """The owners and scenes whose images are in several splits."""
    where: dict[str, set[str]] = {}
    for photo in album:
        for thing in (photo.owner, photo.like):
            if thing and (name := splits[photo.id]):
                where.setdefault(thing, set()).add(name)
    return [thing for thing, splits in where.items() if len(splits) > 1]


@pytest.mark.parametrize("mode", MODES)
def test_no_owner_and_no_near_duplicates_are_in_several_splits(mode: str) -> None:
    params_strategy, prescribed = MODES[mode]

    @EXAMPLES
    @given(
        photos(prescribed),
        params_strategy,
        st.dictionaries(st.integers(0, 999).map("{:03d}".format), PRESCRIBED),
    )
    def holds(album: list[Photo], params: SplitParams, before: Splits) -> None:
        try:
            splits = assign_album(album, params, before)
        except PipelineError:
            assert params.is_exact
        else:
            assert not straddling(album, splits)
            assert set(splits.values()) <= {*SPLITS, None}

    holds()


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_images_does_not_matter(mode: str) -> None:
    params_strategy, prescribed = MODES[mode]

    @EXAMPLES
    @given(
        photos(prescribed),
        params_strategy,
        st.randoms(use_true_random=False),
        st.dictionaries(st.integers(0, 999).map("{:03d}".format), PRESCRIBED),
    )
    def holds(album: list[Photo], params: SplitParams, random: Random, before: Splits) -> None:
        def outcome(ordered: list[Photo]) -> object:
            try:
                return assign_album(ordered, params, before)
            except PipelineError as error:
                return str(error)

        assert outcome(random.sample(album, len(album))) == outcome(album)

    holds()


def expected_groups(album: Sequence[Photo]) -> list[set[str]]:
    return [{album[row].id for row in group.rows} for group in images_and_groups(album)[1]]


@settings(EXAMPLES, max_examples=250)
@given(photos(st.none(), 40), SHARES, st.lists(st.integers(0, 40), max_size=3), st.randoms())
def test_an_image_moves_only_when_a_new_image_merges_groups_of_two_splits(
    album: list[Photo], params: SplitParams, arrivals: list[int], random: Random
) -> None:
    """Over up to four runs; each starts from the split of the one before."""
    before: Splits = {}
    for end in [*sorted(arrivals), len(album)]:
        present = album[:end]
        random.shuffle(present)
        now = assign_by_chance(present, params, before)
        for group in expected_groups(present):
            previous_counts = Counter(before[key] for key in group if key in before)
            (current,) = {now[key] for key in group}
            majority = {
                name
                for name, count in previous_counts.items()
                if count == max(previous_counts.values())
            }
            assert not previous_counts or current in majority
            assert len(previous_counts) < 2 or group - set(before), (
                "a new image has joined the groups"
            )
        before = now


@EXAMPLES
@given(photos(st.none()), photos(st.none()), SHARES)
def test_images_that_join_no_group_move_no_others(
    old: list[Photo], new: list[Photo], params: SplitParams
) -> None:
    def apart(photo: Photo) -> Photo:
        return photo._replace(
            id=f"new {photo.id}",
            owner=photo.owner and f"new {photo.owner}",
            like=photo.like and f"new {photo.like}",
        )

    before = assign_by_chance(old, params)
    for known in ({}, before):  # without the last run, and with it
        now = assign_by_chance(old + [apart(photo) for photo in new], params, known)
        assert {key: now[key] for key in before} == before


@EXAMPLES
@given(
    photos(st.none()), SHARES, st.dictionaries(st.integers(0, 999).map("{:03d}".format), PRESCRIBED)
)
def test_a_single_image_stays_or_goes_where_it_would_alone(
    album: list[Photo], params: SplitParams, before: Splits
) -> None:
    splits = assign_by_chance(album, params, before)
    for photo in album:
        if photo.owner is None and photo.like is None:
            assert splits[photo.id] == before.get(photo.id) or (
                not before.get(photo.id)
                and assign_by_chance([photo], params) == {photo.id: splits[photo.id]}
            )


@settings(EXAMPLES, max_examples=180)
@given(photos(st.none()), SHARES, st.lists(st.integers(0, 24), max_size=8))
def test_removed_images_move_no_others(
    album: list[Photo], params: SplitParams, gone: list[int]
) -> None:
    """Even if they led their group, or linked its images."""
    before = assign_by_chance(album, params)
    left = [photo for number, photo in enumerate(album) if number not in gone]
    assert assign_by_chance(left, params, before) == {photo.id: before[photo.id] for photo in left}


def test_halves_of_a_group_stay_when_the_image_between_them_is_gone() -> None:
    moved = 0
    for number in range(100):
        first, second = Photo(f"{number} a", owner="ann"), Photo(f"{number} b", like="p")
        before = assign_by_chance(
            [first, second, Photo(f"{number} x", owner="ann", like="p")], SPLIT_PARAMS
        )
        assert len(set(before.values())) == 1
        assert assign_by_chance([first, second], SPLIT_PARAMS, before) == {
            key: before[key] for key in (first.id, second.id)
        }
        moved += assign_by_chance([first, second], SPLIT_PARAMS) != {
            key: before[key] for key in (first.id, second.id)
        }
    assert moved > 10, "chance alone would move some"


@EXAMPLES
@given(photos(st.sampled_from([None, "train"])), SHARES)
def test_the_same_images_stay_when_the_last_run_is_known(
    album: list[Photo], params: SplitParams
) -> None:
    before = assign_album(album, params)
    assert assign_album(album, params, before) == before


@EXAMPLES
@given(photos(PRESCRIBED), SHARES)
def test_the_same_images_stay_whatever_the_source_prescribes(
    album: list[Photo], params: SplitParams
) -> None:
    before = assign_album(album, params)
    assert assign_album(album, params, before) == before


@EXAMPLES
@given(photos(PRESCRIBED), SHARES | NUMBERS)
def test_images_that_the_source_puts_in_val_or_test_stay_there_or_leak(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        splits = assign_album(album, params)
    except PipelineError:
        return
    leaking = {leak.image.id for leak in leaks_of(album)}
    for photo in album:
        if photo.id in leaking:
            assert splits[photo.id] is None
        elif photo.prescribed in {"val", "test"}:
            assert splits[photo.id] == photo.prescribed
        elif params.train is None:
            assert splits[photo.id] is not None


@EXAMPLES
@given(photos(PRESCRIBED), SHARES | NUMBERS)
def test_no_train_image_goes_to_a_split_that_the_source_has(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        splits = assign_album(album, params)
    except PipelineError:
        return
    source_splits = {photo.prescribed for photo in album} - {None, "train"}
    assert not {splits[photo.id] for photo in album if photo.prescribed == "train"} & source_splits


@EXAMPLES
@given(photos(PRESCRIBED), SHARES | NUMBERS)
def test_prescribed_false_ignores_the_splits_of_the_source(
    album: list[Photo], params: SplitParams
) -> None:
    def outcome(album: Sequence[Photo]) -> object:
        try:
            return assign_album(album, params.model_copy(update={"prescribed": False}))
        except PipelineError as error:
            return str(error)

    assert outcome(album) == outcome([photo._replace(prescribed=None) for photo in album])


@pytest.mark.parametrize(
    ("source_splits", "expected"),
    [
        (set(), {"train": 0.5, "val": 0.2, "test": 0.3}),
        ({"test"}, {"train": 0.8, "val": 0.2}),
        ({"val"}, {"train": 0.7, "test": 0.3}),
        ({"val", "test"}, {"train": 1.0}),
    ],
    ids=["nothing", "test", "val", "both"],
)
def test_shares_hold_within_the_train_set_of_the_source(
    source_splits: set[str], expected: dict[str, float]
) -> None:
    album = singles(20_000, "train") + [
        Photo(name, prescribed=name) for name in sorted(source_splits)
    ]
    splits = assign_album(album, SPLIT_PARAMS)
    assert count_shares([splits[photo.id] for photo in album[:20_000]]) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_for_each_class(seed: int) -> None:
    album = singles(20_000)
    splits = assign_album(album, split_params(seed=seed))
    for label in ("cat", "dog"):
        shares = count_shares([splits[photo.id] for photo in album if photo.label == label])
        assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.02)


@pytest.mark.parametrize(
    "params", [SPLIT_PARAMS, split_params(folds=4, test=0.1)], ids=["shares", "folds"]
)
def test_shares_hold_for_large_groups_of_near_duplicates(params: SplitParams) -> None:
    """Groups of eight images without owners have eight keys."""
    album = [photo._replace(like=str(number // 8)) for number, photo in enumerate(singles(40_000))]
    expected = {"test": 0.25, "val": 0.15, "train": 0.6}
    if not params.folds:
        expected = {"train": 0.5, "val": 0.2, "test": 0.3}
    shares = count_shares(list(assign_album(album, params).values()))
    assert shares == pytest.approx(expected, abs=0.025)


def test_growing_groups_do_not_drift_to_one_split() -> None:
    """Each first image was assigned alone; the others follow it, whichever image leads."""
    album = singles(4000)
    before = assign_album(album, SPLIT_PARAMS)
    grown = [photo._replace(like=photo.id) for photo in album] + [
        Photo(f"{photo.id} {copy}", photo.label, like=photo.id)
        for photo in album
        for copy in range(3)
    ]
    now = assign_album(grown, SPLIT_PARAMS, before)
    assert {key: now[key] for key in before} == before
    assert count_shares(list(now.values())) == pytest.approx(count_shares(list(before.values())))


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"val": 0.4}, ("train", "val")),
        ({"val": 0.1}, ("val", "train")),
        ({"test": 0.4}, ("train", "test")),
        ({"test": 0.1}, ("test", "train")),
    ],
    ids=["more val", "less val", "more test", "less test"],
)
@pytest.mark.parametrize("size", [1, 4])
def test_a_changed_share_moves_images_only_to_or_from_train(
    size: int, changes: dict[str, float], way: tuple[str, str]
) -> None:
    album = [photo._replace(like=str(n // size)) for n, photo in enumerate(singles(1000))]
    before, after = assign_album(album, SPLIT_PARAMS), assign_album(album, split_params(**changes))
    assert {(before[key], after[key]) for key in before if before[key] != after[key]} == {way}


@pytest.mark.parametrize(("first", "other"), [("test", "val"), ("val", "test")])
def test_the_first_image_that_the_source_puts_in_a_split_does_not_reshuffle_the_other(
    first: str, other: str
) -> None:
    """Images that `first` took from the train set go back to it; no others move."""

    @EXAMPLES
    @given(photos(st.sampled_from([None, "train"])), SHARES)
    def holds(album: list[Photo], params: SplitParams) -> None:
        before = assign_by_chance(album, params)
        prescribed_of = {photo.id: photo.prescribed for photo in album}
        back = {
            key
            for group in expected_groups(album)
            for key in group
            if before[key] == first and "train" in {prescribed_of[key] for key in group}
        }
        for known in ({}, before):
            now = assign_by_chance([*album, Photo("new", prescribed=first)], params, known)
            assert now == before | dict.fromkeys(back, "train") | {"new": first}

    holds()
    album = singles(1000, "train")
    before, now = (
        assign_by_chance(album, SPLIT_PARAMS),
        assign_by_chance([*album, Photo("new", prescribed=first)], SPLIT_PARAMS),
    )
    carved = {key for key, name in before.items() if name == other}
    assert carved == {key for key, name in now.items() if name == other}
    assert carved


def test_an_image_in_val_stays_when_a_train_image_joins_its_group() -> None:
    """Val is open to both images; test, which the source has, only to the first."""
    album = singles(300) + singles(20, "test", 400)
    before = assign_album(album, SPLIT_PARAMS)
    grown = [photo._replace(like=photo.id) for photo in album]
    free = [photo for photo in grown if not photo.prescribed]
    grown += [
        Photo(f"{photo.id} b", photo.label, like=photo.id, prescribed="train") for photo in free
    ]
    now = assign_album(grown, SPLIT_PARAMS, before)
    for name in ("val", "train"):
        stay = {photo.id for photo in free if before[photo.id] == name}
        assert stay
        assert {now[key] for key in stay} == {now[f"{key} b"] for key in stay} == {name}
    anew = assign_album(grown, SPLIT_PARAMS)
    assert {anew[photo.id] for photo in free if before[photo.id] == "val"} == {"val", "train"}
    assert {now[photo.id] for photo in free if before[photo.id] == "test"} == {"val", "train"}


def test_another_seed_assigns_anew() -> None:
    album = singles(1000)
    before = assign_album(album, SPLIT_PARAMS)
    assert assign_album(album, split_params(seed=2)) != before
    assert assign_album(album, split_params(seed=2), before) == before, (
        "so the stage drops the last split when the seed changes"
    )


def test_the_tutorials_numbers_are_exact_per_class() -> None:
    album = singles(2600)
    splits = assign_album(album, split_params(val=150, test=300, train=850))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in splits.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 150), ("test", 300), ("train", 850))
    }


def test_numbers_take_val_from_the_train_set_and_leave_out_the_rest() -> None:
    album = singles(100, "train") + singles(40, "test", 100)
    splits = assign_album(album, split_params(val=10, test=7, train=30))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in splits.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 10), ("test", 20), ("train", 30), (None, 10))
    }


@EXAMPLES
@given(photos(st.none()), st.integers(2, 6), SEEDS, st.floats(0.05, 0.45))
def test_each_image_is_tested_in_one_fold_unless_its_class_could_not_be_trained_there(
    album: list[Photo], folds: int, seed: int, val: float
) -> None:
    fold_splits = [
        assign_album(album, split_params(seed=seed, folds=folds, fold=fold, val=val))
        for fold in range(folds)
    ]
    label = {photo.id: photo.label for photo in album}
    tests = {key: [splits[key] for splits in fold_splits].count("test") for key in label}
    assert set(tests.values()) <= {0, 1}
    for splits in fold_splits:
        assert set(label.values()) == {label[key] for key, name in splits.items() if name != "test"}
    groups = expected_groups(album)
    count = Counter(name for group in groups for name in {label[key] for key in group})
    if len(count) == 1 and len(groups) > 1:
        assert set(tests.values()) == {1}
    for group in groups:
        assert all(len({splits[key] for key in group}) == 1 for splits in fold_splits)


def test_folds_are_refused_when_the_source_prescribes_splits() -> None:
    album = singles(10, "train") + singles(10, "test", 10)
    with pytest.raises(PipelineError) as caught:
        assign_album(album, split_params(folds=3))
    assert str(caught.value) == (
        "the source prescribes test and train, and split.folds assigns anew: set "
        "split.prescribed=false for that, or split.folds=null"
    )
    assert set(assign_album(album, split_params(folds=3, prescribed=False)).values()) == set(SPLITS)


def leaks_of(album: Sequence[Photo]) -> list[leaks.Leak]:
    images, groups = images_and_groups(album)
    return list(leaks.find_leaks(groups, images, [], split_params()))


@EXAMPLES
@given(photos(st.none() | st.just("train")))
def test_images_in_one_split_of_the_source_do_not_leak(album: list[Photo]) -> None:
    assert leaks_of(album) == []


@EXAMPLES
@given(photos(PRESCRIBED), SHARES)
def test_only_leaking_images_are_left_out(album: list[Photo], params: SplitParams) -> None:
    left_out = [key for key, name in assign_album(album, params).items() if name is None]
    leaking = leaks_of(album)
    assert sorted(left_out) == sorted(leak.image.id for leak in leaking)
    assert not {leak.stays.id for leak in leaking} & set(left_out)


@EXAMPLES
@given(photos(PRESCRIBED), SHARES)
def test_without_the_leaking_images_nothing_leaks(album: list[Photo], params: SplitParams) -> None:
    splits = assign_album(album, params)
    assert leaks_of([photo for photo in album if splits[photo.id]]) == []
