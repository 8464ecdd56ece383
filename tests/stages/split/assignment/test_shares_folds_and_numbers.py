import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.columns import encode_sorted
from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split.assignment import draw, folds, numbers, shares
from pipeline.stages.split.assignment.groups import Group
from pipeline.stages.split.assignment.incidence import find_incidence
from pipeline.stages.split.assignment.modes import HELD_OUT
from tests.builders.albums import groups_of, leader_of, names_of, ranks, text_column
from tests.builders.params import split_params

EXAMPLES = settings(derandomize=True, max_examples=60)
SIZES = st.lists(  # of groups: cats, dogs
    st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=1, max_size=12
)
NUMBERS = st.integers(1, 4)
SEEDS = st.integers(0, 99)


SHARES = split_params()


def assign_by_share(
    groups: Sequence[Group],
    names: Sequence[str],
    params: SplitParams,
    before: Sequence[str | None] = (),
) -> list[str | None]:
    """The splits of groups.

    Args:
        names: The splits beside train that are open.
        before: The splits of all images in the last run, in the order of the groups.
    """
    columns = groups_of(groups)
    allowed = np.tile([name in {*names, "train"} for name in SPLITS], (len(groups), 1))
    previous = ranks(before or [None] * len(columns.key_of_row))
    places = draw.positions(columns.keys, params.seed)
    return names_of(shares.assign_by_share(columns, places, allowed, params, previous))


def assign_one_by_share(
    group: Group, names: Sequence[str], params: SplitParams, before: Mapping[int, str | None]
) -> str | None:
    rows = [before.get(row) for row in group.rows]
    (split,) = assign_by_share([group], names, params, rows)
    return split


def assign_by_fold(groups: Sequence[Group], params: SplitParams) -> list[str | None]:
    """The splits of groups that all have images of the same class."""
    columns = groups_of(groups)
    labels = np.zeros(len(columns.key_of_row), np.int32)
    pairs = find_incidence(labels, columns.of_row, 1, len(groups))
    places = draw.positions(columns.keys, params.seed)
    leaders = draw.draw_leaders(columns, params.seed)
    return names_of(folds.assign_by_fold(columns, leaders, places, pairs, ["cat"], params))


def assign_by_number(
    groups: Sequence[Group], labels: Sequence[str], names: Sequence[str], params: SplitParams
) -> list[str | None]:
    columns = groups_of(groups)
    names_of_rows = [labels[row] for group in groups for row in group.rows]
    codes, classes = encode_sorted(text_column(names_of_rows))
    pairs = find_incidence(codes, columns.of_row, len(classes), len(groups))
    leaders = draw.draw_leaders(columns, params.seed)
    order = np.argsort(draw.positions(columns.keys, params.seed)[leaders])
    free = ranks([None] * len(groups))
    return names_of(numbers.assign_by_number(order, pairs, classes, names, params, free))


def split_alone(key: str, params: SplitParams = SHARES) -> str | None:
    """The split of a key that is a group of its own."""
    return assign_one_by_share(Group([key], [0]), HELD_OUT, params, {})


def keys_in(*splits: str) -> list[str]:
    """Keys that alone would go to `splits`; the last key leads the group of them all."""
    candidates = [str(number) for number in range(200)]
    candidates.sort(key=lambda key: unit_interval(f"leader {key}", SHARES.seed), reverse=True)
    keys: list[str] = []
    for name in splits:
        index = next(n for n, key in enumerate(candidates) if split_alone(key) == name)
        keys.append(candidates[index])
        candidates = candidates[index + 1 :]
    assert leader_of(sorted(keys), SHARES.seed) == keys[-1]
    return keys


def test_the_leader_of_a_group_is_random() -> None:
    groups = [Group([f"a{number}", f"b{number}"]) for number in range(4000)]
    first = fmean(draw.draw_leaders(groups_of(groups), 1) % 2 == 0)
    assert first == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("size", [2, 10])
def test_the_position_of_a_leader_is_uniform(size: int) -> None:
    """If the lowest position led its group, large groups would all go to one split."""
    groups = [Group([f"{number} {key}" for key in range(size)]) for number in range(4000)]
    columns = groups_of(groups)
    mean = draw.positions(columns.keys, 1)[draw.draw_leaders(columns, 1)].mean()
    assert mean == pytest.approx(0.5, abs=0.02)


def test_another_seed_chooses_other_leaders() -> None:
    groups = [Group([f"a{number}", f"b{number}"]) for number in range(100)]
    columns = groups_of(groups)
    assert (draw.draw_leaders(columns, 1) != draw.draw_leaders(columns, 2)).any()


def test_low_positions_go_to_val_and_high_ones_to_test() -> None:
    for number in range(1000):
        position = unit_interval(str(number), SHARES.seed)
        expected = "val" if position < 0.2 else "test" if position >= 0.7 else "train"
        assert split_alone(str(number)) == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0.0, "val"),
        (0.2499, "val"),
        (0.25, "train"),
        (0.4999, "train"),
        (0.5, "test"),
        (1 - 2**-53, "test"),
    ],
)
def test_a_position_on_a_border_goes_to_the_upper_split(
    position: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "unit_interval", lambda *_: position)
    assert split_alone("any", split_params(val=0.25, test=0.5)) == expected


@EXAMPLES
@given(
    st.text(max_size=5),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.floats(0.01, 0.49),
    st.sampled_from(["val", "test"]),
)
def test_a_changed_share_moves_keys_only_between_that_split_and_train(
    key: str, val: float, test: float, changed: float, name: str
) -> None:
    before = split_alone(key, split_params(val=val, test=test))
    after = split_alone(key, split_params(**{"val": val, "test": test, name: changed}))
    assert before == after or {before, after} == {"train", name}


@EXAMPLES
@given(
    st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True),
    st.sampled_from([("val",), ("test",), ()]),
)
def test_keys_of_a_split_that_is_not_assigned_go_to_train_and_others_stay(
    keys: list[str], names: tuple[str, ...]
) -> None:
    group = Group(sorted(keys), [0])
    split = assign_one_by_share(group, HELD_OUT, SHARES, {})
    expected = split if split in names else "train"
    assert assign_one_by_share(group, names, SHARES, {}) == expected


@pytest.mark.parametrize(("names", "share"), [(("val",), 0.2), (("test",), 0.3)])
def test_shares_hold_when_only_one_split_is_assigned(names: tuple[str, ...], share: float) -> None:
    groups = [Group([str(number)], [number]) for number in range(10_000)]
    split_counts = Counter(assign_by_share(groups, names, SHARES))
    assert set(split_counts) == {*names, "train"}
    assert split_counts[names[0]] / 10_000 == pytest.approx(share, abs=0.02)


@EXAMPLES
@given(st.text(max_size=5), st.sampled_from([None, "left out", ""]))
def test_a_new_single_image_goes_where_its_key_points(key: str, before: str | None) -> None:
    previous = {} if before is None else {7: before}
    assert assign_one_by_share(Group([key], [7]), HELD_OUT, SHARES, previous) == split_alone(key)


@pytest.mark.parametrize("names", [HELD_OUT, ("val",), ("test",), ()])
@pytest.mark.parametrize("before", SPLITS)
@pytest.mark.parametrize("alone", SPLITS)
def test_a_single_image_stays_in_its_split_while_that_is_open(
    alone: str, before: str, names: tuple[str, ...]
) -> None:
    group = Group(keys_in(alone), [7])
    anew = alone if alone in names else "train"
    expected = before if before in {*names, "train"} else anew
    assert assign_one_by_share(group, names, SHARES, {7: before}) == expected


def test_a_group_goes_with_its_leader() -> None:
    for splits in [("train", "test"), ("test", "train"), ("val", "test", "train")]:
        keys = keys_in(*splits)
        group = Group(sorted(keys), list(range(len(keys))))
        assert assign_one_by_share(group, HELD_OUT, SHARES, {}) == splits[-1]


def test_a_group_stays_when_a_new_leader_points_elsewhere() -> None:
    keys = keys_in("train", "test")
    assert (
        assign_one_by_share(Group(sorted(keys), [0, 1]), HELD_OUT, SHARES, {0: "train"}) == "train"
    )


def test_a_merged_group_goes_where_most_of_it_was() -> None:
    group = Group(sorted(keys_in("train", "val", "test")), [0, 1, 2, 3, 4])
    before = {0: "train", 1: "val", 2: "val", 3: "test"}
    assert assign_one_by_share(group, HELD_OUT, SHARES, before) == "val"


@pytest.mark.parametrize(("other", "leader"), [("train", "test"), ("test", "train")])
def test_the_leader_decides_between_two_equal_halves(other: str, leader: str) -> None:
    keys = keys_in(other, leader)
    before = {0: other, 1: leader}
    assert assign_one_by_share(Group(sorted(keys), [0, 1]), HELD_OUT, SHARES, before) == leader


def test_a_tie_is_decided_by_the_leader_among_the_tied_splits() -> None:
    """Not by the leader of the group, whose split has the fewest of its images here."""
    keys = keys_in("val", "test", "train")  # each leads those before it
    before = {0: "val", 1: "val", 2: "test", 3: "test", 4: "train"}
    group = Group(sorted(keys), list(range(5)))
    assert assign_one_by_share(group, HELD_OUT, SHARES, before) == "test"


def test_a_tie_does_not_depend_on_the_order_of_the_rows() -> None:
    keys = sorted(keys_in("val", "test", "train"))
    before = {0: "val", 1: "test"}
    split = assign_one_by_share(Group(keys, [0, 1, 2]), HELD_OUT, SHARES, before)
    assert assign_one_by_share(Group(keys, [2, 1, 0]), HELD_OUT, SHARES, before) == split
    assert split in {"val", "test"}


@pytest.mark.parametrize("was", SPLITS)
def test_a_group_stays_when_none_of_its_keys_points_there(was: str) -> None:
    """The key that pointed there may be gone."""
    keys = keys_in(*(name for name in SPLITS if name != was))
    before = {0: was, 1: was, 2: "train"}
    assert assign_one_by_share(Group(sorted(keys), [0, 1, 2]), HELD_OUT, SHARES, before) == was


@pytest.mark.parametrize(
    ("tied", "expected"),
    [(("train", "test"), "train"), (("val", "test"), "val"), (("train", "val"), "train")],
)
def test_a_tie_of_splits_that_no_key_points_to_follows_the_order_of_splits(
    tied: tuple[str, str], expected: str
) -> None:
    (other,) = {*SPLITS} - {*tied}
    group = Group(keys_in(other), [0, 1])
    for before in (dict(enumerate(tied)), dict(enumerate(tied[::-1]))):
        assert assign_one_by_share(group, HELD_OUT, SHARES, before) == expected


@pytest.mark.parametrize("nonsense", ["left out", "", "somewhere"])
def test_a_previous_value_that_is_no_split_is_ignored(nonsense: str) -> None:
    group = Group(sorted(keys_in("train", "test")), [0, 1, 2])
    assert assign_one_by_share(group, HELD_OUT, SHARES, dict.fromkeys(range(3), nonsense)) == "test"
    assert (
        assign_one_by_share(group, HELD_OUT, SHARES, {0: "val", 1: nonsense, 2: nonsense}) == "val"
    )


def test_a_previous_split_that_is_closed_now_is_ignored() -> None:
    """The source has its own test set now."""
    group = Group(sorted(keys_in("val", "train")), [0, 1, 2])
    assert assign_one_by_share(group, ["val"], SHARES, dict.fromkeys(range(3), "test")) == "train"
    before = {0: "val", 1: "test", 2: "test"}
    assert assign_one_by_share(group, ["val"], SHARES, before) == "val"


@settings(EXAMPLES, max_examples=180)
@given(
    st.lists(st.integers(0, 99).map(str), min_size=1, max_size=6, unique=True),
    st.sampled_from([HELD_OUT, ("val",), ("test",), ()]),
    st.dictionaries(st.integers(0, 7), st.sampled_from([*SPLITS, "left out"])),
)
def test_a_group_stays_in_its_majority_split_or_follows_a_key(
    keys: list[str], names: tuple[str, ...], before: dict[int, str]
) -> None:
    group = Group(sorted(keys), list(range(8)))
    split = assign_one_by_share(group, names, SHARES, before)
    key_splits = {assign_one_by_share(Group([key], [0]), names, SHARES, {}) for key in keys}
    previous_counts = Counter(name for name in before.values() if name in {*names, "train"})
    majority = {
        name for name in previous_counts if previous_counts[name] == max(previous_counts.values())
    }
    if not majority:
        assert split == assign_one_by_share(group, names, SHARES, {})
        assert split in key_splits
    elif not majority & key_splits:
        assert split == min(majority, key=SPLITS.index)
    else:
        assert split in (majority if len(majority) == 1 else majority & key_splits)
    assert assign_one_by_share(group, names, SHARES, dict.fromkeys(range(8), split)) == split


@pytest.mark.parametrize("size", [1, 2, 10])
def test_shares_hold_for_groups_of_any_size(size: int) -> None:
    count = 10_000
    groups = [Group([f"{number} {key}" for key in range(size)], [0]) for number in range(count)]
    split_counts = Counter(assign_by_share(groups, HELD_OUT, SHARES))
    assert split_counts["test"] / count == pytest.approx(0.3, abs=0.02)
    assert split_counts["val"] / count == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_folds_are_equal_and_val_is_a_share_of_the_rest(size: int) -> None:
    count, folds = 10_000, 4
    groups = [Group([f"{number} {key}" for key in range(size)], [0]) for number in range(count)]
    for fold in range(folds):
        params = split_params(folds=folds, fold=fold)
        split_counts = Counter(assign_by_fold(groups, params))
        assert split_counts["test"] / count == pytest.approx(1 / folds, abs=0.02)
        assert split_counts["val"] / (count - split_counts["test"]) == pytest.approx(0.2, abs=0.02)


def test_every_group_is_tested_in_exactly_one_fold() -> None:
    groups = [Group([f"a{number}", f"b{number}"], [0]) for number in range(500)]
    by_fold = [assign_by_fold(groups, split_params(folds=7, fold=fold)) for fold in range(7)]
    for splits in zip(*by_fold, strict=True):
        assert splits.count("test") == 1
        assert len(set(splits)) == 2  # val or train, the same in all other folds


def build(sizes: list[tuple[int, int]]) -> tuple[list[Group], list[str]]:
    """A group for each pair of counts: cats, dogs."""
    groups: list[Group] = []
    labels: list[str] = []
    for number, (cats, dogs) in enumerate(sizes):
        rows = range(len(labels), len(labels) + cats + dogs)
        labels += ["cat"] * cats + ["dog"] * dogs
        groups.append(Group([f"owner {number}"], list(rows)))
    return groups, labels


def count_images(groups: list[Group], labels: list[str], splits: list[str | None]) -> Counter[Any]:
    return Counter(
        (name, labels[row])
        for group, name in zip(groups, splits, strict=True)
        for row in group.rows
    )


FEW = re.compile(
    r"split\.(\w+) = (\d+), but class '(?P<label>\w+)' has only (?P<left>\d+) images? left for it: "
    r"add images, or lower it"
)
WHOLE = re.compile(
    r"split\.(\w+) = (\d+), but no choice of whole groups has exactly that many of class "
    r"'(?P<label>\w+)' \((?P<left>\d+) images? left for it\): add images, or change the number"
)


def parse_error(error: PipelineError) -> tuple[str, int, str, int]:
    """Parse the message: the split, its number, the class, and the images left for it."""
    few, whole = FEW.fullmatch(str(error)), WHOLE.fullmatch(str(error))
    match = few or whole
    assert match, error
    number, left = int(match[2]), int(match["left"])
    assert (left < number) is (few is not None)
    return match[1], number, match["label"], left


@settings(EXAMPLES, max_examples=180)
@given(SIZES, NUMBERS, NUMBERS, st.none() | NUMBERS, st.sampled_from([HELD_OUT, ("val",), ()]))
def test_numbers_are_exact_per_class_or_the_error_names_the_class(
    sizes: list[tuple[int, int]], val: int, test: int, train: int | None, names: tuple[str, ...]
) -> None:
    groups, labels = build(sizes)
    params = split_params(val=val, test=test, train=train)
    numbers = {"val": val, "test": test, "train": train}
    try:
        splits = assign_by_number(groups, labels, names, params)
    except PipelineError as error:
        name, number, label, left = parse_error(error)
        assert name in {*names, "train"}
        assert number == numbers[name]
        assert 0 <= left <= labels.count(label)
    else:
        image_counts = count_images(groups, labels, splits)
        for label in set(labels):
            assert all(image_counts[name, label] == numbers[name] for name in names)
            assert train in {None, image_counts["train", label]}
        assert train is not None or None not in splits
        assert set(splits) <= {*names, "train", None}


@EXAMPLES
@given(st.integers(0, 12), st.integers(1, 12), NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_single_images_fail_only_when_there_are_too_few(
    cats: int, dogs: int, val: int, test: int, train: int | None
) -> None:
    groups, labels = build([(1, 0)] * cats + [(0, 1)] * dogs)
    params = split_params(val=val, test=test, train=train)
    enough = min(number for number in (cats, dogs) if number) >= val + test + (train or 0)
    if enough:
        assign_by_number(groups, labels, HELD_OUT, params)
    else:
        with pytest.raises(PipelineError):
            assign_by_number(groups, labels, HELD_OUT, params)


@EXAMPLES
@given(SIZES, NUMBERS, NUMBERS, st.randoms(use_true_random=False))
def test_assignment_by_number_does_not_depend_on_the_order(
    sizes: list[tuple[int, int]], val: int, test: int, random: Random
) -> None:
    groups, labels = build(sizes)
    shuffled = random.sample(groups, len(groups))

    def outcome(ordered: list[Group]) -> object:
        try:
            splits = assign_by_number(ordered, labels, HELD_OUT, split_params(val=val, test=test))
        except PipelineError as error:
            return str(error)
        return {group.keys[0]: name for group, name in zip(ordered, splits, strict=True)}

    assert outcome(shuffled) == outcome(groups)


def test_a_group_too_large_for_one_split_goes_on_to_the_next() -> None:
    groups, labels = build([(4, 4)] + [(1, 0), (0, 1)] * 2)
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(val=1, test=1))
    assert splits[0] == "train"
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(val=4, test=1))
    assert splits[0] == "val"


def test_images_beyond_the_numbers_are_left_out() -> None:
    groups, labels = build([(1, 0), (0, 1)] * 10)
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(val=1, test=2, train=3))
    assert count_images(groups, labels, splits) == {
        (name, label): number
        for label in ("cat", "dog")
        for name, number in (("val", 1), ("test", 2), ("train", 3), (None, 4))
    }


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"val": 4, "test": 1}, ("val", 4, "dog", 3)),
        ({"val": 1, "test": 4}, ("test", 4, "dog", 2)),
        ({"val": 1, "test": 1, "train": 2}, ("train", 2, "dog", 1)),
    ],
    ids=["val", "test", "train"],
)
def test_the_error_names_the_split_the_class_and_the_remedy(
    numbers: dict[str, int], expected: tuple[str, int, str, int]
) -> None:
    groups, labels = build([(1, 0)] * 10 + [(0, 1)] * 3)
    with pytest.raises(PipelineError) as caught:
        assign_by_number(groups, labels, HELD_OUT, split_params(**numbers))
    assert parse_error(caught.value) == expected


@pytest.mark.parametrize("sizes", [[(2, 2)] * 5, [(2, 0), (0, 2)] * 5], ids=["mixed", "alone"])
def test_unreachable_numbers_and_too_few_images_are_different_errors(
    sizes: list[tuple[int, int]],
) -> None:
    groups, labels = build(sizes)
    with pytest.raises(PipelineError) as caught:
        assign_by_number(groups, labels, HELD_OUT, split_params(val=3, test=1))
    assert str(caught.value) == (
        "split.val = 3, but no choice of whole groups has exactly that many of class 'cat' (10 "
        "images left for it): add images, or change the number"
    )
    with pytest.raises(PipelineError) as caught:
        assign_by_number(groups, labels, HELD_OUT, split_params(val=11, test=1))
    assert str(caught.value) == (
        "split.val = 11, but class 'cat' has only 10 images left for it: add images, or lower it"
    )


def test_the_error_names_the_first_class_by_name() -> None:
    """Not the first of a set: its order differs between processes."""
    labels = sorted("abcdefghijklmnopqrstuvwxyz", reverse=True)
    groups = [Group([label], [row]) for row, label in enumerate(labels)]
    with pytest.raises(PipelineError) as caught:
        assign_by_number(groups, labels, HELD_OUT, split_params(val=2, test=1))
    assert parse_error(caught.value) == ("val", 2, "a", 1)


def in_order(groups: list[Group]) -> list[int]:
    return sorted(range(len(groups)), key=lambda n: unit_interval(groups[n].keys[0], SHARES.seed))


def test_val_takes_the_lowest_positions_and_test_the_highest() -> None:
    groups, labels = build([(1, 0)] * 30)
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(val=5, test=7))
    assert [splits[n] for n in in_order(groups)] == ["val"] * 5 + ["train"] * 18 + ["test"] * 7


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_group_that_prevents_an_exact_number_is_skipped(name: str) -> None:
    """Groups of 3, 2 and 2 images: 4 is 2 + 2, although the group of 3 comes first."""
    groups, _ = build([(1, 0)] * 3)
    order = in_order(groups) if name == "val" else in_order(groups)[::-1]
    sizes = [(2, 0)] * 3
    sizes[order[0]] = (3, 0)
    groups, labels = build(sizes)
    splits = assign_by_number(groups, labels, [name], split_params(val=4, test=4))
    assert [splits[n] for n in order] == ["train", name, name]


def test_a_mixed_group_that_prevents_an_exact_number_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After 1 cat and 2 dogs, neither 4 cats nor 4 dogs can be reached."""
    groups, _ = build([(1, 0)] * 3)
    sizes = [(2, 2)] * 3
    sizes[in_order(groups)[0]] = (1, 2)
    groups, labels = build(sizes)
    splits = assign_by_number(groups, labels, ["val"], split_params(val=4, test=4))
    assert [splits[n] for n in in_order(groups)] == ["train", "val", "val"]
    monkeypatch.setattr(numbers, "MAX_ATTEMPTS", 1)
    with pytest.raises(PipelineError) as caught:
        assign_by_number(groups, labels, ["val"], split_params(val=4, test=4))
    assert parse_error(caught.value) == ("val", 4, "cat", 5)


def test_mixed_groups_are_assigned_first_and_single_class_groups_fill_up() -> None:
    groups, labels = build([(1, 0)] * 9 + [(0, 2)] * 9 + [(3, 1), (0, 1), (1, 1)])
    splits = assign_by_number(groups, labels, ["val"], split_params(val=5, test=1))
    assert splits[18] == splits[20] == "val"
    assert splits[:9].count("val") == 1
    image_counts = count_images(groups, labels, splits)
    assert image_counts["val", "cat"] == image_counts["val", "dog"] == 5


def choices(sizes: list[int], number: int) -> list[tuple[int, ...]]:
    """All sets of indices whose sizes add up to `number`."""
    return [
        indices
        for count in range(len(sizes) + 1)
        for indices in combinations(range(len(sizes)), count)
        if sum(sizes[index] for index in indices) == number
    ]


ONE_CLASS = st.lists(st.integers(1, 6), min_size=1, max_size=9)


@settings(EXAMPLES, max_examples=180)
@given(ONE_CLASS, ONE_CLASS, st.integers(1, 20), SEEDS, st.sampled_from(HELD_OUT))
def test_single_class_groups_fail_only_without_an_exact_choice_and_prefer_early_groups(
    cats: list[int], dogs: list[int], number: int, seed: int, name: str
) -> None:
    groups, labels = build([(cat, 0) for cat in cats] + [(0, dog) for dog in dogs])
    params = split_params(seed=seed, val=number, test=number)
    order = sorted(range(len(groups)), key=lambda n: unit_interval(groups[n].keys[0], seed))
    if name == "test":
        order.reverse()
    expected: set[int] = set()
    failing_labels = []
    for label in ("cat", "dog"):
        group_numbers = [n for n in order if labels[groups[n].rows[0]] == label]
        exact = choices([len(groups[n].rows) for n in group_numbers], number)
        if exact:  # prefer sets with the first group, then the second, ...
            best = max(
                exact, key=lambda indices: [index in indices for index in range(len(group_numbers))]
            )
            expected |= {group_numbers[index] for index in best}
        else:
            failing_labels.append(label)
    if failing_labels:
        with pytest.raises(PipelineError) as caught:
            assign_by_number(groups, labels, [name], params)
        left = labels.count(failing_labels[0])
        assert parse_error(caught.value) == (name, number, failing_labels[0], left)
    else:
        splits = assign_by_number(groups, labels, [name], params)
        assert {n for n, split in enumerate(splits) if split == name} == expected


@pytest.mark.parametrize("seed", range(100))
def test_exact_numbers_are_reached_with_fifty_owners(seed: int) -> None:
    random = Random(seed)
    owners = [(random.randint(3, 5), 0) for _ in range(25)]
    groups, labels = build(owners + [(0, random.randint(3, 5)) for _ in range(25)])
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(seed=seed, val=31, test=31))
    image_counts = count_images(groups, labels, splits)
    assert {image_counts[name, label] for name in HELD_OUT for label in ("cat", "dog")} == {31}
    assert None not in splits


@EXAMPLES
@given(st.integers(8, 60), st.integers(1, 10), NUMBERS, NUMBERS, SEEDS)
def test_new_images_displace_at_most_as_many_images(
    old: int, new: int, val: int, test: int, seed: int
) -> None:
    groups, labels = build([(1, 0)] * (old + new))
    params = split_params(seed=seed, val=val, test=test)
    before = assign_by_number(groups[:old], labels[:old], HELD_OUT, params)
    now = assign_by_number(groups, labels, HELD_OUT, params)
    for name in HELD_OUT:
        assert (
            sum(previous == name != current for previous, current in zip(before, now, strict=False))
            <= new
        )
    moved = {pair for pair in zip(before, now, strict=False) if pair[0] != pair[1]}
    assert not moved & {("train", "val"), ("train", "test")}, "none is pushed in"


@pytest.mark.parametrize("seed", range(3))
def test_assignment_by_number_is_random(seed: int) -> None:
    groups, labels = build([(1, 0)] * 200)
    splits = assign_by_number(groups, labels, HELD_OUT, split_params(seed=seed, val=50, test=50))
    assert 10 < splits[:100].count("test") < 40
