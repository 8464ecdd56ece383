import re
from collections import Counter
from itertools import combinations
from random import Random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split import assignment
from pipeline.stages.split.assignment import HELD_OUT
from pipeline.stages.split.groups import Group
from tests.builders.params import split_params

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
SIZES = st.lists(  # of groups: how many cats, how many dogs
    st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=1, max_size=12
)
NUMBERS = st.integers(1, 4)
SEEDS = st.integers(0, 99)


SHARES = split_params()


def own(key: str, params: SplitParams = SHARES) -> str:
    """Where a key goes alone."""
    return assignment.assign_by_share(Group([key], [0]), HELD_OUT, params, {})


def keys_in(*splits: str) -> list[str]:
    """Keys that go to `splits` alone, the last of which leads them all."""
    candidates = [str(number) for number in range(200)]
    candidates.sort(key=lambda key: unit_interval(f"leader {key}", SHARES.seed), reverse=True)
    found: list[str] = []
    for name in splits:
        index = next(n for n, key in enumerate(candidates) if own(key) == name)
        found.append(candidates[index])
        candidates = candidates[index + 1 :]
    assert assignment.choose_leader(sorted(found), SHARES.seed) == found[-1]
    return found


def test_the_leader_is_one_of_the_group_by_chance() -> None:
    groups = [Group([f"a{number}", f"b{number}"]) for number in range(4000)]
    first = fmean(assignment.choose_leader(group.keys, 1) == group.keys[0] for group in groups)
    assert first == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("size", [2, 10])
def test_the_place_of_a_leader_is_any(size: int) -> None:
    """Were the leader whose place is the lowest, large groups would all test."""
    groups = [Group([f"{number} {key}" for key in range(size)]) for number in range(4000)]
    mean = fmean(unit_interval(assignment.choose_leader(group.keys, 1), 1) for group in groups)
    assert mean == pytest.approx(0.5, abs=0.02)


def test_another_seed_has_other_leaders() -> None:
    groups = [Group([f"a{number}", f"b{number}"]) for number in range(100)]
    assert [assignment.choose_leader(one.keys, 1) for one in groups] != [
        assignment.choose_leader(one.keys, 2) for one in groups
    ]


def test_low_places_validate_and_high_ones_test() -> None:
    for number in range(1000):
        place = unit_interval(str(number), SHARES.seed)
        expected = "val" if place < 0.2 else "test" if place >= 0.7 else "train"
        assert own(str(number)) == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0.0, "val"),
        (0.2499, "val"),
        (0.25, "train"),
        (0.4999, "train"),
        (0.5, "test"),
        (1 - 2**-53, "test"),
    ],
)
def test_a_place_on_the_border_is_the_upper_split_s(
    place: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "unit_interval", lambda *_: place)
    assert own("any", split_params(val=0.25, test=0.5)) == expected


@EXAMPLES
@given(
    st.text(max_size=5),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.sampled_from(["val", "test"]),
)
def test_a_changed_share_moves_a_key_between_it_and_train_alone(
    key: str, val: float, test: float, changed: float, name: str
) -> None:
    before = own(key, split_params(val=val, test=test))
    after = own(key, split_params(**{"val": val, "test": test, name: changed}))
    assert before == after or {before, after} == {"train", name}


@EXAMPLES
@given(
    st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True),
    st.sampled_from([("val",), ("test",), ()]),
)
def test_an_interval_that_is_not_dealt_is_train_s_and_moves_no_other(
    keys: list[str], names: tuple[str, ...]
) -> None:
    group = Group(sorted(keys), [0])
    dealt = assignment.assign_by_share(group, HELD_OUT, SHARES, {})
    expected = dealt if dealt in names else "train"
    assert assignment.assign_by_share(group, names, SHARES, {}) == expected


@pytest.mark.parametrize(("names", "share"), [(("val",), 0.2), (("test",), 0.3)])
def test_what_is_not_dealt_goes_to_train(names: tuple[str, ...], share: float) -> None:
    dealt = Counter(
        assignment.assign_by_share(Group([str(number)], [number]), names, SHARES, {})
        for number in range(10_000)
    )
    assert set(dealt) == {*names, "train"}
    assert dealt[names[0]] / 10_000 == pytest.approx(share, abs=0.02)


@EXAMPLES
@given(st.text(max_size=5), st.sampled_from([None, "left out", ""]))
def test_a_single_that_was_nowhere_goes_where_its_key_would(key: str, before: str | None) -> None:
    was = {} if before is None else {7: before}
    assert assignment.assign_by_share(Group([key], [7]), HELD_OUT, SHARES, was) == own(key)


@pytest.mark.parametrize("names", [HELD_OUT, ("val",), ("test",), ()])
@pytest.mark.parametrize("before", SPLITS)
@pytest.mark.parametrize("alone", SPLITS)
def test_a_single_stays_where_that_is_open_wherever_its_key_would_go(
    alone: str, before: str, names: tuple[str, ...]
) -> None:
    group = Group(keys_in(alone), [7])
    anew = alone if alone in names else "train"
    expected = before if before in {*names, "train"} else anew
    assert assignment.assign_by_share(group, names, SHARES, {7: before}) == expected


def test_a_group_goes_with_its_leader() -> None:
    for splits in [("train", "test"), ("test", "train"), ("val", "test", "train")]:
        keys = keys_in(*splits)
        group = Group(sorted(keys), list(range(len(keys))))
        assert assignment.assign_by_share(group, HELD_OUT, SHARES, {}) == splits[-1]


def test_a_group_stays_where_it_was_though_a_new_leader_would_go_elsewhere() -> None:
    keys = keys_in("train", "test")
    assert (
        assignment.assign_by_share(Group(sorted(keys), [0, 1]), HELD_OUT, SHARES, {0: "train"})
        == "train"
    )


def test_a_group_joined_of_two_goes_where_most_of_it_was() -> None:
    group = Group(sorted(keys_in("train", "val", "test")), [0, 1, 2, 3, 4])
    before = {0: "train", 1: "val", 2: "val", 3: "test"}
    assert assignment.assign_by_share(group, HELD_OUT, SHARES, before) == "val"


@pytest.mark.parametrize(("one", "leads"), [("train", "test"), ("test", "train")])
def test_of_two_halves_that_were_apart_the_leader_s_stays(one: str, leads: str) -> None:
    keys = keys_in(one, leads)
    before = {0: one, 1: leads}
    assert (
        assignment.assign_by_share(Group(sorted(keys), [0, 1]), HELD_OUT, SHARES, before) == leads
    )


def test_a_tie_is_the_leader_s_among_those_that_tie() -> None:
    """Not that of all: it would go where least of the group was."""
    keys = keys_in("val", "test", "train")  # the last leads them all, the second the first two
    before = {0: "val", 1: "val", 2: "test", 3: "test", 4: "train"}
    group = Group(sorted(keys), list(range(5)))
    assert assignment.assign_by_share(group, HELD_OUT, SHARES, before) == "test"


def test_a_tie_is_decided_alike_in_any_order() -> None:
    keys = sorted(keys_in("val", "test", "train"))
    before = {0: "val", 1: "test"}
    one = assignment.assign_by_share(Group(keys, [0, 1, 2]), HELD_OUT, SHARES, before)
    assert assignment.assign_by_share(Group(keys, [2, 1, 0]), HELD_OUT, SHARES, before) == one
    assert one in {"val", "test"}


@pytest.mark.parametrize("was", SPLITS)
def test_a_group_stays_though_no_key_that_it_still_has_would_go_there(was: str) -> None:
    """The one that did may be gone."""
    keys = keys_in(*(name for name in SPLITS if name != was))
    before = {0: was, 1: was, 2: "train"}
    assert (
        assignment.assign_by_share(Group(sorted(keys), [0, 1, 2]), HELD_OUT, SHARES, before) == was
    )


@pytest.mark.parametrize(
    ("tied", "expected"),
    [(("train", "test"), "train"), (("val", "test"), "val"), (("train", "val"), "train")],
)
def test_a_tie_between_splits_of_no_key_goes_by_the_order_of_splits(
    tied: tuple[str, str], expected: str
) -> None:
    (other,) = {*SPLITS} - {*tied}
    group = Group(keys_in(other), [0, 1])
    for before in (dict(enumerate(tied)), dict(enumerate(tied[::-1]))):
        assert assignment.assign_by_share(group, HELD_OUT, SHARES, before) == expected


@pytest.mark.parametrize("nonsense", ["left out", "", "somewhere"])
def test_a_place_before_that_is_no_split_does_not_count(nonsense: str) -> None:
    group = Group(sorted(keys_in("train", "test")), [0, 1, 2])
    assert (
        assignment.assign_by_share(group, HELD_OUT, SHARES, dict.fromkeys(range(3), nonsense))
        == "test"
    )
    assert (
        assignment.assign_by_share(group, HELD_OUT, SHARES, {0: "val", 1: nonsense, 2: nonsense})
        == "val"
    )


def test_a_place_before_that_is_closed_now_does_not_count() -> None:
    """The source has a test set of its own by now."""
    group = Group(sorted(keys_in("val", "train")), [0, 1, 2])
    assert (
        assignment.assign_by_share(group, ["val"], SHARES, dict.fromkeys(range(3), "test"))
        == "train"
    )
    before = {0: "val", 1: "test", 2: "test"}
    assert assignment.assign_by_share(group, ["val"], SHARES, before) == "val"


@settings(EXAMPLES, max_examples=300)
@given(
    st.lists(st.integers(0, 99).map(str), min_size=1, max_size=6, unique=True),
    st.sampled_from([HELD_OUT, ("val",), ("test",), ()]),
    st.dictionaries(st.integers(0, 7), st.sampled_from([*SPLITS, "left out"])),
)
def test_a_group_stays_where_most_of_it_was_where_that_is_open_else_goes_where_a_key_would(
    keys: list[str], names: tuple[str, ...], before: dict[int, str]
) -> None:
    group = Group(sorted(keys), list(range(8)))
    found = assignment.assign_by_share(group, names, SHARES, before)
    anew = {assignment.assign_by_share(Group([key], [0]), names, SHARES, {}) for key in keys}
    was = Counter(name for name in before.values() if name in {*names, "train"})
    most = {name for name in was if was[name] == max(was.values())}
    if not most:
        assert found == assignment.assign_by_share(group, names, SHARES, {})
        assert found in anew
    elif not most & anew:
        assert found == min(most, key=SPLITS.index)
    else:
        assert found in (most if len(most) == 1 else most & anew)
    assert assignment.assign_by_share(group, names, SHARES, dict.fromkeys(range(8), found)) == found


@pytest.mark.parametrize("size", [1, 2, 10])
def test_shares_hold_for_groups_of_any_size(size: int) -> None:
    count = 10_000
    groups = [Group([f"{number} {key}" for key in range(size)], [0]) for number in range(count)]
    dealt = Counter(assignment.assign_by_share(group, HELD_OUT, SHARES, {}) for group in groups)
    assert dealt["test"] / count == pytest.approx(0.3, abs=0.02)
    assert dealt["val"] / count == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_folds_are_of_one_size_and_val_a_share_of_the_rest(size: int) -> None:
    count, folds = 10_000, 4
    groups = [Group([f"{number} {key}" for key in range(size)], [0]) for number in range(count)]
    for fold in range(folds):
        settings = split_params(folds=folds, fold=fold)
        dealt = Counter(assignment.assign_by_fold(group, settings) for group in groups)
        assert dealt["test"] / count == pytest.approx(1 / folds, abs=0.02)
        assert dealt["val"] / (count - dealt["test"]) == pytest.approx(0.2, abs=0.02)


def test_every_group_tests_in_exactly_one_fold() -> None:
    for number in range(500):
        group = Group([f"a{number}", f"b{number}"], [0])
        dealt = [
            assignment.assign_by_fold(group, split_params(folds=7, fold=fold)) for fold in range(7)
        ]
        assert dealt.count("test") == 1
        assert len(set(dealt)) == 2  # whether it validates is the same in all other folds


def build(sizes: list[tuple[int, int]]) -> tuple[list[Group], list[str]]:
    """Groups of so many cats and dogs."""
    groups: list[Group] = []
    labels: list[str] = []
    for number, (cats, dogs) in enumerate(sizes):
        rows = range(len(labels), len(labels) + cats + dogs)
        labels += ["cat"] * cats + ["dog"] * dogs
        groups.append(Group([f"owner {number}"], list(rows)))
    return groups, labels


def counts(groups: list[Group], labels: list[str], dealt: list[str | None]) -> Counter[Any]:
    return Counter(
        (name, labels[row]) for group, name in zip(groups, dealt, strict=True) for row in group.rows
    )


FEW = re.compile(
    r"split\.(\w+) = (\d+), but only (?P<left>\d+) images of class '(?P<label>\w+)' are left for "
    r"it: add images, or lower it"
)
WHOLE = re.compile(
    r"split\.(\w+) = (\d+), but no choice of whole groups has exactly that many of class "
    r"'(?P<label>\w+)' \((?P<left>\d+) images are left for it\): add images, or change the number"
)


def refused(error: PipelineError) -> tuple[str, int, str, int]:
    """The split, its number, the class, and how many images are left for it; by the right words."""
    few, whole = FEW.fullmatch(str(error)), WHOLE.fullmatch(str(error))
    told = few or whole
    assert told, error
    number, left = int(told[2]), int(told["left"])
    assert (left < number) is (few is not None)
    return told[1], number, told["label"], left


@settings(EXAMPLES, max_examples=300)
@given(SIZES, NUMBERS, NUMBERS, st.none() | NUMBERS, st.sampled_from([HELD_OUT, ("val",), ()]))
def test_numbers_are_exact_for_each_class_or_the_class_that_lacks_is_named(
    sizes: list[tuple[int, int]], val: int, test: int, train: int | None, names: tuple[str, ...]
) -> None:
    groups, labels = build(sizes)
    settings = split_params(val=val, test=test, train=train)
    wanted = {"val": val, "test": test, "train": train}
    try:
        dealt = assignment.assign_by_number(groups, labels, names, settings)
    except PipelineError as error:
        name, number, label, left = refused(error)
        assert name in {*names, "train"}
        assert number == wanted[name]
        assert 0 <= left <= labels.count(label)
    else:
        found = counts(groups, labels, dealt)
        for label in set(labels):
            assert all(found[name, label] == wanted[name] for name in names)
            assert train in {None, found["train", label]}
        assert train is not None or None not in dealt
        assert set(dealt) <= {*names, "train", None}


@EXAMPLES
@given(st.integers(0, 12), st.integers(1, 12), NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_singles_are_refused_only_when_they_are_too_few(
    cats: int, dogs: int, val: int, test: int, train: int | None
) -> None:
    groups, labels = build([(1, 0)] * cats + [(0, 1)] * dogs)
    settings = split_params(val=val, test=test, train=train)
    enough = min(number for number in (cats, dogs) if number) >= val + test + (train or 0)
    if enough:
        assignment.assign_by_number(groups, labels, HELD_OUT, settings)
    else:
        with pytest.raises(PipelineError):
            assignment.assign_by_number(groups, labels, HELD_OUT, settings)


@EXAMPLES
@given(SIZES, NUMBERS, NUMBERS, st.randoms(use_true_random=False))
def test_numbers_are_dealt_alike_in_any_order(
    sizes: list[tuple[int, int]], val: int, test: int, random: Random
) -> None:
    groups, labels = build(sizes)
    shuffled = random.sample(groups, len(groups))

    def outcome(ordered: list[Group]) -> object:
        try:
            dealt = assignment.assign_by_number(
                ordered, labels, HELD_OUT, split_params(val=val, test=test)
            )
        except PipelineError as error:
            return str(error)
        return {group.keys[0]: name for group, name in zip(ordered, dealt, strict=True)}

    assert outcome(shuffled) == outcome(groups)


def test_a_group_too_large_for_one_split_goes_on_to_the_next() -> None:
    groups, labels = build([(4, 4)] + [(1, 0), (0, 1)] * 2)
    dealt = assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=1, test=1))
    assert dealt[0] == "train"
    dealt = assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=4, test=1))
    assert dealt[0] == "val"


def test_what_the_numbers_do_not_want_is_left_out() -> None:
    groups, labels = build([(1, 0), (0, 1)] * 10)
    dealt = assignment.assign_by_number(
        groups, labels, HELD_OUT, split_params(val=1, test=2, train=3)
    )
    assert counts(groups, labels, dealt) == {
        (name, label): number
        for label in ("cat", "dog")
        for name, number in (("val", 1), ("test", 2), ("train", 3), (None, 4))
    }


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"val": 4, "test": 1}, ("val", 4, "dog", 3)),
        ({"val": 1, "test": 4}, ("test", 4, "dog", 2)),
        ({"val": 1, "test": 1, "train": 2}, ("train", 2, "dog", 1)),
    ],
    ids=["val", "test", "train"],
)
def test_the_split_and_class_that_lack_are_named_and_what_to_do(
    numbers: dict[str, int], said: tuple[str, int, str, int]
) -> None:
    groups, labels = build([(1, 0)] * 10 + [(0, 1)] * 3)
    with pytest.raises(PipelineError) as caught:
        assignment.assign_by_number(groups, labels, HELD_OUT, split_params(**numbers))
    assert refused(caught.value) == said


@pytest.mark.parametrize("sizes", [[(2, 2)] * 5, [(2, 0), (0, 2)] * 5], ids=["mixed", "alone"])
def test_groups_that_cannot_make_a_number_are_told_from_images_that_are_too_few(
    sizes: list[tuple[int, int]],
) -> None:
    groups, labels = build(sizes)
    with pytest.raises(PipelineError) as caught:
        assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=3, test=1))
    assert str(caught.value) == (
        "split.val = 3, but no choice of whole groups has exactly that many of class 'cat' (10 "
        "images are left for it): add images, or change the number"
    )
    with pytest.raises(PipelineError) as caught:
        assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=11, test=1))
    assert str(caught.value) == (
        "split.val = 11, but only 10 images of class 'cat' are left for it: add images, or lower it"
    )


def test_of_classes_that_lack_as_much_the_first_by_name_is_named() -> None:
    """Not the first of a set, which is another in each process."""
    labels = sorted("abcdefghijklmnopqrstuvwxyz", reverse=True)
    groups = [Group([label], [row]) for row, label in enumerate(labels)]
    with pytest.raises(PipelineError) as caught:
        assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=2, test=1))
    assert refused(caught.value) == ("val", 2, "a", 1)


def in_order(groups: list[Group]) -> list[int]:
    return sorted(range(len(groups)), key=lambda n: unit_interval(groups[n].keys[0], SHARES.seed))


def test_val_takes_the_lowest_places_and_test_the_highest() -> None:
    groups, labels = build([(1, 0)] * 30)
    dealt = assignment.assign_by_number(groups, labels, HELD_OUT, split_params(val=5, test=7))
    assert [dealt[n] for n in in_order(groups)] == ["val"] * 5 + ["train"] * 18 + ["test"] * 7


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_first_group_that_is_in_the_way_is_passed_over(name: str) -> None:
    """Of three, two and two images four are 2 + 2, though the group of three comes first."""
    groups, _ = build([(1, 0)] * 3)
    order = in_order(groups) if name == "val" else in_order(groups)[::-1]
    sizes = [(2, 0)] * 3
    sizes[order[0]] = (3, 0)
    groups, labels = build(sizes)
    dealt = assignment.assign_by_number(groups, labels, [name], split_params(val=4, test=4))
    assert [dealt[n] for n in order] == ["train", name, name]


def test_a_group_of_several_classes_that_is_in_the_way_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 1 cat and 2 dogs taken, neither 2 + 2 cats nor 2 + 2 dogs are to be had."""
    groups, _ = build([(1, 0)] * 3)
    sizes = [(2, 2)] * 3
    sizes[in_order(groups)[0]] = (1, 2)
    groups, labels = build(sizes)
    dealt = assignment.assign_by_number(groups, labels, ["val"], split_params(val=4, test=4))
    assert [dealt[n] for n in in_order(groups)] == ["train", "val", "val"]
    monkeypatch.setattr(assignment, "MAX_ATTEMPTS", 1)
    with pytest.raises(PipelineError) as caught:
        assignment.assign_by_number(groups, labels, ["val"], split_params(val=4, test=4))
    assert refused(caught.value) == ("val", 4, "cat", 5)


def test_groups_of_several_classes_come_first_and_of_one_class_make_up_the_rest() -> None:
    groups, labels = build([(1, 0)] * 9 + [(0, 2)] * 9 + [(3, 1), (0, 1), (1, 1)])
    dealt = assignment.assign_by_number(groups, labels, ["val"], split_params(val=5, test=1))
    assert dealt[18] == dealt[20] == "val"
    assert dealt[:9].count("val") == 1
    found = counts(groups, labels, dealt)
    assert found["val", "cat"] == found["val", "dog"] == 5


def choices(sizes: list[int], number: int) -> list[tuple[int, ...]]:
    """All places whose sizes sum up to `number`."""
    return [
        some
        for count in range(len(sizes) + 1)
        for some in combinations(range(len(sizes)), count)
        if sum(sizes[place] for place in some) == number
    ]


ONE_CLASS = st.lists(st.integers(1, 6), min_size=1, max_size=9)


@settings(EXAMPLES, max_examples=300)
@given(ONE_CLASS, ONE_CLASS, st.integers(1, 20), SEEDS, st.sampled_from(HELD_OUT))
def test_groups_of_one_class_fail_only_where_no_choice_is_exact_and_early_ones_are_preferred(
    cats: list[int], dogs: list[int], number: int, seed: int, name: str
) -> None:
    groups, labels = build([(cat, 0) for cat in cats] + [(0, dog) for dog in dogs])
    settings = split_params(seed=seed, val=number, test=number)
    order = sorted(range(len(groups)), key=lambda n: unit_interval(groups[n].keys[0], seed))
    if name == "test":
        order.reverse()
    expected: set[int] = set()
    lacking = []
    for label in ("cat", "dog"):
        mine = [n for n in order if labels[groups[n].rows[0]] == label]
        exact = choices([len(groups[n].rows) for n in mine], number)
        if exact:  # the first by order that holds the first, then the second, ... where it can
            best = max(exact, key=lambda some: [place in some for place in range(len(mine))])
            expected |= {mine[place] for place in best}
        else:
            lacking.append(label)
    if lacking:
        with pytest.raises(PipelineError) as caught:
            assignment.assign_by_number(groups, labels, [name], settings)
        left = labels.count(lacking[0])
        assert refused(caught.value) == (name, number, lacking[0], left)
    else:
        dealt = assignment.assign_by_number(groups, labels, [name], settings)
        assert {n for n, where in enumerate(dealt) if where == name} == expected


@pytest.mark.parametrize("seed", range(100))
def test_numbers_of_fifty_owners_with_a_few_photos_each_are_always_to_be_had(seed: int) -> None:
    random = Random(seed)
    owners = [(random.randint(3, 5), 0) for _ in range(25)]
    groups, labels = build(owners + [(0, random.randint(3, 5)) for _ in range(25)])
    dealt = assignment.assign_by_number(
        groups, labels, HELD_OUT, split_params(seed=seed, val=31, test=31)
    )
    found = counts(groups, labels, dealt)
    assert {found[name, label] for name in HELD_OUT for label in ("cat", "dog")} == {31}
    assert None not in dealt


@EXAMPLES
@given(st.integers(8, 60), st.integers(1, 10), NUMBERS, NUMBERS, SEEDS)
def test_new_singles_push_out_of_a_number_at_most_as_many_as_they_are(
    old: int, new: int, val: int, test: int, seed: int
) -> None:
    groups, labels = build([(1, 0)] * (old + new))
    settings = split_params(seed=seed, val=val, test=test)
    before = assignment.assign_by_number(groups[:old], labels[:old], HELD_OUT, settings)
    now = assignment.assign_by_number(groups, labels, HELD_OUT, settings)
    for name in HELD_OUT:
        assert sum(was == name != dealt for was, dealt in zip(before, now, strict=False)) <= new
    moved = {ways for ways in zip(before, now, strict=False) if ways[0] != ways[1]}
    assert not moved & {("train", "val"), ("train", "test")}, "none is pushed in"


@pytest.mark.parametrize("seed", range(3))
def test_which_images_have_a_number_s_places_is_chance(seed: int) -> None:
    groups, labels = build([(1, 0)] * 200)
    dealt = assignment.assign_by_number(
        groups, labels, HELD_OUT, split_params(seed=seed, val=50, test=50)
    )
    assert 10 < dealt[:100].count("test") < 40
