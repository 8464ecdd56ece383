"""assign() on whole albums: what holds for any images and params."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.params import SplitParams
from pipeline.stages.split import assignment, leaks
from tests.builders.albums import CHOSEN, Dealt, Photo, assign_album, count_shares, read, singles
from tests.builders.params import split_params

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)

SAID = st.sampled_from([None, "train", "val", "test"])


def photos(said: st.SearchStrategy[str | None], max_size: int = 25) -> Any:
    return st.lists(
        st.builds(
            Photo,
            id=st.integers(0, 999).map("{:03d}".format),
            label=st.sampled_from(["cat", "dog"]),
            owner=st.none() | st.sampled_from(["ann", "bob", "cid", "dot", "eve", "flo"]),
            like=st.none() | st.sampled_from("pqrstu"),
            said=said,
        ),
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
    "shares": (SHARES, SAID),
    "numbers": (NUMBERS, SAID),
    "folds": (FOLDS, st.none()),
    "folds of what was prescribed": (
        st.builds(split_params, seed=SEEDS, folds=st.just(3), prescribed=st.just(False)),
        SAID,
    ),
}


def straddling(album: Sequence[Photo], dealt: Dealt) -> list[str]:
    """Owners, and what near-duplicates show, that are in several splits."""
    where: dict[str, set[str]] = {}
    for photo in album:
        for thing in (photo.owner, photo.like):
            if thing and (name := dealt[photo.id]):
                where.setdefault(thing, set()).add(name)
    return [thing for thing, splits in where.items() if len(splits) > 1]


@pytest.mark.parametrize("mode", MODES)
def test_no_owner_and_no_near_duplicates_straddle(mode: str) -> None:
    settings, said = MODES[mode]

    @EXAMPLES
    @given(photos(said), settings, st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID))
    def holds(album: list[Photo], params: SplitParams, before: Dealt) -> None:
        try:
            dealt = assign_album(album, params, before)
        except PipelineError:
            assert params.is_exact
        else:
            assert not straddling(album, dealt)
            assert set(dealt.values()) <= {*SPLITS, None}

    holds()


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_images_does_not_matter(mode: str) -> None:
    settings, said = MODES[mode]

    @EXAMPLES
    @given(
        photos(said),
        settings,
        st.randoms(use_true_random=False),
        st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID),
    )
    def holds(album: list[Photo], params: SplitParams, random: Random, before: Dealt) -> None:
        def outcome(ordered: list[Photo]) -> object:
            try:
                return assign_album(ordered, params, before)
            except PipelineError as error:
                return str(error)

        assert outcome(random.sample(album, len(album))) == outcome(album)

    holds()


def expected_groups(album: Sequence[Photo]) -> list[set[str]]:
    return [{album[row].id for row in group.rows} for group in read(album)[1]]


@settings(EXAMPLES, max_examples=400)
@given(photos(st.none(), 40), SHARES, st.lists(st.integers(0, 40), max_size=3), st.randoms())
def test_an_image_moves_only_when_a_new_one_joins_its_group_to_one_in_another_split(
    album: list[Photo], params: SplitParams, arrivals: list[int], random: Random
) -> None:
    """Over up to four runs, each of which sees what the one before it has dealt."""
    before: Dealt = {}
    for end in [*sorted(arrivals), len(album)]:
        there = album[:end]
        random.shuffle(there)
        now = assign_album(there, params, before)
        for group in expected_groups(there):
            was = Counter(before[key] for key in group if key in before)
            (stands,) = {now[key] for key in group}
            most = {name for name, count in was.items() if count == max(was.values())}
            assert not was or stands in most
            assert len(was) < 2 or group - set(before), "a new image has joined them"
        before = now


@EXAMPLES
@given(photos(st.none()), photos(st.none()), SHARES)
def test_images_that_join_no_group_move_none(
    old: list[Photo], new: list[Photo], params: SplitParams
) -> None:
    def apart(photo: Photo) -> Photo:
        return photo._replace(
            id=f"new {photo.id}",
            owner=photo.owner and f"new {photo.owner}",
            like=photo.like and f"new {photo.like}",
        )

    before = assign_album(old, params)
    for known in ({}, before):  # neither with the last run nor without
        now = assign_album(old + [apart(photo) for photo in new], params, known)
        assert {key: now[key] for key in before} == before


@EXAMPLES
@given(photos(st.none()), SHARES, st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID))
def test_a_single_stays_where_it_was_or_goes_where_it_would_alone(
    album: list[Photo], params: SplitParams, before: Dealt
) -> None:
    dealt = assign_album(album, params, before)
    for photo in album:
        if photo.owner is None and photo.like is None:
            assert dealt[photo.id] == before.get(photo.id) or (
                not before.get(photo.id)
                and assign_album([photo], params) == {photo.id: dealt[photo.id]}
            )


@settings(EXAMPLES, max_examples=300)
@given(photos(st.none()), SHARES, st.lists(st.integers(0, 24), max_size=8))
def test_images_that_go_move_none(album: list[Photo], params: SplitParams, gone: list[int]) -> None:
    """Though they led their group, or held it together."""
    before = assign_album(album, params)
    left = [photo for number, photo in enumerate(album) if number not in gone]
    assert assign_album(left, params, before) == {photo.id: before[photo.id] for photo in left}


def test_halves_of_a_group_stay_when_what_linked_them_is_gone() -> None:
    moved = 0
    for number in range(100):
        a, b = Photo(f"{number} a", owner="ann"), Photo(f"{number} b", like="p")
        before = assign_album([a, b, Photo(f"{number} x", owner="ann", like="p")], CHOSEN)
        assert len(set(before.values())) == 1
        assert assign_album([a, b], CHOSEN, before) == {key: before[key] for key in (a.id, b.id)}
        moved += assign_album([a, b], CHOSEN) != {key: before[key] for key in (a.id, b.id)}
    assert moved > 10, "chance alone would move some"


@EXAMPLES
@given(photos(st.sampled_from([None, "train"])), SHARES)
def test_the_same_images_stay_when_the_last_run_is_known(
    album: list[Photo], params: SplitParams
) -> None:
    before = assign_album(album, params)
    assert assign_album(album, params, before) == before


@EXAMPLES
@given(photos(SAID), SHARES)
def test_the_same_images_stay_whatever_the_source_prescribes(
    album: list[Photo], params: SplitParams
) -> None:
    before = assign_album(album, params)
    assert assign_album(album, params, before) == before


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_what_the_source_puts_in_val_or_test_stays_there_or_is_a_leak(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        dealt = assign_album(album, params)
    except PipelineError:
        return
    leaking = {leak.image.id for leak in leaks_of(album)}
    for photo in album:
        if photo.id in leaking:
            assert dealt[photo.id] is None
        elif photo.said in {"val", "test"}:
            assert dealt[photo.id] == photo.said
        elif params.train is None:
            assert dealt[photo.id] is not None


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_a_train_set_gives_nothing_to_splits_the_source_has(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        dealt = assign_album(album, params)
    except PipelineError:
        return
    given = {photo.said for photo in album} - {None, "train"}
    assert not {dealt[photo.id] for photo in album if photo.said == "train"} & given


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_what_the_source_prescribes_is_forgotten_on_request(
    album: list[Photo], params: SplitParams
) -> None:
    def outcome(album: Sequence[Photo]) -> object:
        try:
            return assign_album(album, params.model_copy(update={"prescribed": False}))
        except PipelineError as error:
            return str(error)

    assert outcome(album) == outcome([photo._replace(said=None) for photo in album])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (set(), {"train": 0.5, "val": 0.2, "test": 0.3}),
        ({"test"}, {"train": 0.8, "val": 0.2}),
        ({"val"}, {"train": 0.7, "test": 0.3}),
        ({"val", "test"}, {"train": 1.0}),
    ],
    ids=["nothing", "test", "val", "both"],
)
def test_shares_hold_of_a_train_set(given: set[str], expected: dict[str, float]) -> None:
    album = singles(20_000, "train") + [Photo(name, said=name) for name in sorted(given)]
    dealt = assign_album(album, CHOSEN)
    assert count_shares([dealt[photo.id] for photo in album[:20_000]]) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_for_each_class_of_images_that_nobody_assigned(seed: int) -> None:
    album = singles(20_000)
    dealt = assign_album(album, split_params(seed=seed))
    for label in ("cat", "dog"):
        found = count_shares([dealt[photo.id] for photo in album if photo.label == label])
        assert found == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.02)


@pytest.mark.parametrize(
    "params", [CHOSEN, split_params(folds=4, test=0.1)], ids=["shares", "folds"]
)
def test_shares_hold_for_large_groups_of_near_duplicates(params: SplitParams) -> None:
    """Of eight images without owners, so that each group has eight keys."""
    album = [photo._replace(like=str(number // 8)) for number, photo in enumerate(singles(40_000))]
    expected = {"test": 0.25, "val": 0.15, "train": 0.6}
    if not params.folds:
        expected = {"train": 0.5, "val": 0.2, "test": 0.3}
    found = count_shares(list(assign_album(album, params).values()))
    assert found == pytest.approx(expected, abs=0.025)


def test_groups_that_grow_image_by_image_do_not_drift_to_a_split() -> None:
    """Whose first image was dealt alone: the others go with it, whoever leads."""
    album = singles(4000)
    before = assign_album(album, CHOSEN)
    grown = [photo._replace(like=photo.id) for photo in album] + [
        Photo(f"{photo.id} {copy}", photo.label, like=photo.id)
        for photo in album
        for copy in range(3)
    ]
    now = assign_album(grown, CHOSEN, before)
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
def test_a_changed_share_takes_from_train_alone_and_gives_to_it_alone(
    size: int, changes: dict[str, float], way: tuple[str, str]
) -> None:
    album = [photo._replace(like=str(n // size)) for n, photo in enumerate(singles(1000))]
    before, after = assign_album(album, CHOSEN), assign_album(album, split_params(**changes))
    assert {(before[key], after[key]) for key in before if before[key] != after[key]} == {way}


@pytest.mark.parametrize(("first", "other"), [("test", "val"), ("val", "test")])
def test_the_first_image_that_the_source_puts_in_a_split_does_not_reshuffle_the_other(
    first: str, other: str
) -> None:
    """What was carved out of the train set for `first` goes back to it; nothing else moves."""

    @EXAMPLES
    @given(photos(st.sampled_from([None, "train"])), SHARES)
    def holds(album: list[Photo], params: SplitParams) -> None:
        before = assign_album(album, params)
        said = {photo.id: photo.said for photo in album}
        back = {
            key
            for group in expected_groups(album)
            for key in group
            if before[key] == first and "train" in {said[one] for one in group}
        }
        for known in ({}, before):
            now = assign_album([*album, Photo("new", said=first)], params, known)
            assert now == before | dict.fromkeys(back, "train") | {"new": first}

    holds()
    album = singles(1000, "train")
    before, now = (
        assign_album(album, CHOSEN),
        assign_album([*album, Photo("new", said=first)], CHOSEN),
    )
    carved = {key for key, name in before.items() if name == other}
    assert carved == {key for key, name in now.items() if name == other}
    assert carved


def test_an_image_that_one_of_the_train_set_joins_stays_in_val_where_that_is_carved() -> None:
    """Val is open to both of them; test, which the source has, to the first one alone."""
    album = singles(300) + singles(20, "test", 400)
    before = assign_album(album, CHOSEN)
    grown = [photo._replace(like=photo.id) for photo in album]
    free = [photo for photo in grown if not photo.said]
    grown += [Photo(f"{one.id} b", one.label, like=one.id, said="train") for one in free]
    now = assign_album(grown, CHOSEN, before)
    for name in ("val", "train"):
        stay = {one.id for one in free if before[one.id] == name}
        assert stay
        assert {now[key] for key in stay} == {now[f"{key} b"] for key in stay} == {name}
    anew = assign_album(grown, CHOSEN)
    assert {anew[one.id] for one in free if before[one.id] == "val"} == {"val", "train"}
    assert {now[one.id] for one in free if before[one.id] == "test"} == {"val", "train"}


def test_another_seed_deals_anew() -> None:
    album = singles(1000)
    before = assign_album(album, CHOSEN)
    assert assign_album(album, split_params(seed=2)) != before
    assert assign_album(album, split_params(seed=2), before) == before, (
        "which is why the stage forgets it"
    )


def test_the_tutorials_numbers_are_exact_per_class() -> None:
    album = singles(2600)
    dealt = assign_album(album, split_params(val=150, test=300, train=850))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in dealt.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 150), ("test", 300), ("train", 850))
    }


def test_numbers_carve_val_out_of_a_train_set_and_leave_out_what_is_too_many() -> None:
    album = singles(100, "train") + singles(40, "test", 100)
    dealt = assign_album(album, split_params(val=10, test=7, train=30))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in dealt.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 10), ("test", 20), ("train", 30), (None, 10))
    }


@EXAMPLES
@given(photos(st.none()), st.integers(2, 6), SEEDS, st.floats(0.05, 0.45))
def test_each_image_tests_in_exactly_one_fold(
    album: list[Photo], folds: int, seed: int, val: float
) -> None:
    dealt = [
        assign_album(album, split_params(seed=seed, folds=folds, fold=fold, val=val))
        for fold in range(folds)
    ]
    for photo in album:
        assert [one[photo.id] for one in dealt].count("test") == 1
    for group in expected_groups(album):
        assert all(len({one[key] for key in group}) == 1 for one in dealt)


def test_folds_want_a_source_that_prescribes_nothing() -> None:
    album = singles(10, "train") + singles(10, "test", 10)
    with pytest.raises(PipelineError) as caught:
        assign_album(album, split_params(folds=3))
    assert str(caught.value) == (
        "the source prescribes test and train, and split.folds assigns anew: set "
        "split.prescribed=false for that, or split.folds=null"
    )
    assert set(assign_album(album, split_params(folds=3, prescribed=False)).values()) == set(SPLITS)


def leaks_of(album: Sequence[Photo]) -> list[leaks.Leak]:
    images, found = read(album)
    return leaks.find_leaks(found, images, [])


@EXAMPLES
@given(photos(st.none() | st.just("train")))
def test_what_the_source_puts_in_one_split_does_not_leak(album: list[Photo]) -> None:
    assert leaks_of(album) == []


@EXAMPLES
@given(photos(SAID), SHARES)
def test_exactly_what_leaks_is_left_out(album: list[Photo], params: SplitParams) -> None:
    left_out = [key for key, name in assign_album(album, params).items() if name is None]
    leaking = leaks_of(album)
    assert sorted(left_out) == sorted(leak.image.id for leak in leaking)
    assert not {leak.stays.id for leak in leaking} & set(left_out)


@EXAMPLES
@given(photos(SAID), SHARES)
def test_without_what_leaks_nothing_does(album: list[Photo], params: SplitParams) -> None:
    dealt = assign_album(album, params)
    assert leaks_of([photo for photo in album if dealt[photo.id]]) == []


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"class 'cat': a classifier needs at least two"):
        assignment.check_classes(["cat"] * 3, ["train", "val", "test"])


@pytest.mark.parametrize("lacking", SPLITS)
def test_a_class_that_lacks_a_split_is_named(lacking: str) -> None:
    labels = ["cat"] * 3 + ["dog"] * 4
    splits: list[str | None] = [*SPLITS]
    splits += [*(name for name in SPLITS if name != lacking), None]
    splits += ["val" if lacking == "train" else "train"]
    with pytest.raises(PipelineError) as caught:
        assignment.check_classes(labels, splits)
    assert str(caught.value) == (
        f"class 'dog' has no image in {lacking} (of 3 in all): add images, change split.val and "
        "split.test, try another split.seed, or, where the source prescribes splits, set "
        "split.prescribed=false"
    )


def test_a_class_in_every_split_passes() -> None:
    assignment.check_classes(["cat"] * 3 + ["dog"] * 3, list(SPLITS) * 2)
