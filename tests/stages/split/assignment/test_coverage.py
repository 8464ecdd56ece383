"""Every class is in every split, as far as it has groups for that."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split.assignment import modes
from tests.builders.albums import Photo, Splits, assign_album, images_and_groups
from tests.builders.params import split_params

EXAMPLES = settings(derandomize=True, max_examples=60)
SEEDS = st.integers(0, 99)
SHARES = st.builds(split_params, seed=SEEDS, val=st.floats(0.02, 0.45), test=st.floats(0.02, 0.45))
CLASSES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=9), min_size=1, max_size=5)
"""Sizes of the groups of each class; no group has images of two classes."""


def build_album(classes: Sequence[Sequence[int]]) -> list[Photo]:
    return [
        Photo(f"{label} {group} {number}", f"class {label}", owner=f"{label} {group}")
        for label, sizes in enumerate(classes)
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


def splits_of_classes(album: Iterable[Photo], splits: Splits) -> dict[str, set[str | None]]:
    by_label: dict[str, set[str | None]] = defaultdict(set)
    for photo in album:
        by_label[photo.label].add(splits[photo.id])
    return by_label


def group_counts(album: Sequence[Photo], alone: bool = False) -> Counter[str]:
    """Groups of each class; `alone`: only those without images of another class."""
    counts: Counter[str] = Counter()
    for group in images_and_groups(album)[1]:
        labels = {album[row].label for row in group.rows}
        if len(labels) == 1 or not alone:
            counts.update(labels)
    return counts


def expected_splits(groups: int) -> set[str]:
    return set(SPLITS[:groups])


@EXAMPLES
@given(CLASSES, SHARES)
def test_by_share_a_class_is_in_as_many_splits_as_it_has_groups(
    classes: list[list[int]], params: SplitParams
) -> None:
    album = build_album(classes)
    splits_by_class = splits_of_classes(album, assign_album(album, params))
    for label, sizes in enumerate(classes):
        splits = splits_by_class[f"class {label}"]
        assert splits >= expected_splits(len(sizes))
        assert len(sizes) > 2 or splits == expected_splits(len(sizes))


@EXAMPLES
@given(CLASSES, SEEDS, st.integers(2, 5), st.floats(0.05, 0.45))
def test_by_fold_a_class_with_a_group_per_fold_is_tested_in_each(
    classes: list[list[int]], seed: int, folds: int, val: float
) -> None:
    album = build_album(classes)
    tested: Counter[str] = Counter()
    for fold in range(folds):
        splits = assign_album(album, split_params(seed=seed, folds=folds, fold=fold, val=val))
        tested.update(key for key, name in splits.items() if name == "test")
        splits_by_class = splits_of_classes(album, splits)
        for label, sizes in enumerate(classes):
            tested_groups = {
                photo.owner
                for photo in album
                if photo.label == f"class {label}" and splits[photo.id] == "test"
            }
            if len(sizes) == 1:
                assert splits_by_class[f"class {label}"] == {"train"}
            elif len(sizes) < folds:
                assert len(tested_groups) <= 1
            else:
                assert 1 <= len(tested_groups) <= len(sizes) - folds + 1
            rest = len(sizes) - len(tested_groups)
            assert splits_by_class[f"class {label}"] - {"test"} >= expected_splits(min(rest, 2))
    single = {f"class {label}" for label, sizes in enumerate(classes) if len(sizes) == 1}
    assert tested == Counter(photo.id for photo in album if photo.label not in single)


def test_a_class_of_one_group_that_another_class_shares_is_trained_in_every_fold() -> None:
    album = build_album([[1] * 8])
    album += [Photo("shared", "class rare", owner=album[0].owner)]
    for fold in range(4):
        splits = assign_album(album, split_params(folds=4, fold=fold))
        assert splits["shared"] == "train"
        assert "test" in splits.values()  # the other class has groups for that


@EXAMPLES
@given(CLASSES, SEEDS, st.none() | st.integers(1, 2))
def test_by_number_small_classes_train_and_the_others_have_exact_numbers(
    classes: list[list[int]], seed: int, train: int | None
) -> None:
    album = build_album(classes)
    try:
        splits = assign_album(album, split_params(seed=seed, val=1, test=1, train=train))
    except PipelineError:
        assert any(len(sizes) > 2 for sizes in classes)
        return
    for label, sizes in enumerate(classes):
        of_class = [splits[photo.id] for photo in album if photo.label == f"class {label}"]
        if len(sizes) > 2:
            assert of_class.count("val") == of_class.count("test") == 1
            assert train in {None, of_class.count("train")}
        else:
            assert set(of_class) == expected_splits(len(sizes))


MIXED = st.lists(
    st.builds(
        Photo,
        id=st.integers(0, 999).map("{:03d}".format),
        label=st.sampled_from("abcdef"),
        owner=st.none() | st.sampled_from(["ann", "bob", "cid", "dot"]),
        like=st.none() | st.sampled_from("pqr"),
    ),
    max_size=30,
    unique_by=lambda photo: photo.id,
)


@settings(EXAMPLES, max_examples=180)
@given(MIXED, SHARES)
def test_a_class_with_three_groups_of_its_own_is_in_every_split_whatever_it_shares(
    album: list[Photo], params: SplitParams
) -> None:
    splits_by_class = splits_of_classes(album, assign_album(album, params))
    for label, groups in group_counts(album, alone=True).items():
        if groups >= len(SPLITS):
            assert splits_by_class[label] >= set(SPLITS)


@EXAMPLES
@given(MIXED, SHARES)
def test_a_class_of_one_group_trains_with_the_classes_that_it_shares_it_with(
    album: list[Photo], params: SplitParams
) -> None:
    splits_by_class = splits_of_classes(album, assign_album(album, params))
    for label, groups in group_counts(album).items():
        if groups == 1:
            assert splits_by_class[label] == {"train"}


def test_a_class_gives_way_to_a_smaller_one_and_takes_another_group() -> None:
    """The only owner of the rare class has the only test image of the common one."""
    for seed in range(200):
        params = split_params(seed=seed)
        common = [Photo(f"{number}", "common", f"{number}") for number in range(6)]
        before = assign_album([*common, Photo("x", "other")], params)
        test = [photo for photo in common if before[photo.id] == "test"]
        if len(test) == 1:
            break
    (shared,) = test
    album = [*common, Photo("rare", "rare", shared.owner)]
    now = assign_album(album, params)
    assert now["rare"] == now[shared.id] == "train"
    assert {now[photo.id] for photo in common} == set(SPLITS)


@pytest.mark.parametrize("count", [3, 20])
def test_the_groups_that_chance_would_hold_out_next_are_moved(count: int) -> None:
    album = [Photo(f"{number}", "cat") for number in range(count)]
    splits = assign_album(album, split_params(val=1e-9, test=1e-9))
    ordered = sorted(splits, key=lambda key: unit_interval(key, 1))
    assert [splits[key] for key in ordered] == ["val", *["train"] * (count - 2), "test"]


@settings(EXAMPLES, max_examples=180)
@given(CLASSES, CLASSES, SHARES)
def test_new_images_move_no_others_when_the_last_run_is_known(
    old: list[list[int]], new: list[list[int]], params: SplitParams
) -> None:
    """Classes grow, from a single group on, and new classes come; new images go where one lacks."""
    album = build_album(old)
    before = assign_album(album, params)
    grown = album + [
        photo._replace(id=f"new {photo.id}", owner=f"new {photo.owner}")
        for photo in build_album(new)
    ]
    now = assign_album(grown, params, before)
    assert {key: now[key] for key in before} == before


@settings(EXAMPLES, max_examples=180)
@given(CLASSES, st.lists(st.integers(0, 40), max_size=6), SHARES)
def test_removed_images_move_at_most_two_groups_of_their_classes(
    classes: list[list[int]], gone: list[int], params: SplitParams
) -> None:
    album = build_album(classes)
    before = assign_album(album, params)
    left = [photo for number, photo in enumerate(album) if number not in gone]
    now = assign_album(left, params, before)
    counts = group_counts(left)
    for label in {photo.label for photo in left}:
        moved = {
            photo.owner
            for photo in left
            if photo.label == label and now[photo.id] != before[photo.id]
        }
        assert len(moved) <= 2
        was = {before[photo.id] for photo in left if photo.label == label}
        assert not moved or was != expected_splits(min(counts[label], 3))


@EXAMPLES
@given(CLASSES, SHARES)
def test_at_most_one_group_moves_into_each_split_of_a_class(
    classes: list[list[int]], params: SplitParams
) -> None:
    """So shares stay near those that chance gives."""
    album = build_album(classes)
    with patch.object(modes, "cover_classes", lambda assigned, *_: assigned):
        by_chance = assign_album(album, params)
    splits = assign_album(album, params)
    moves = {
        (photo.label, photo.owner): splits[photo.id]
        for photo in album
        if splits[photo.id] != by_chance[photo.id]
    }
    entered = Counter((label, split) for (label, _), split in moves.items())
    assert max(entered.values(), default=1) == 1


def test_a_class_that_cannot_be_in_every_split_stays_as_chance_has_it() -> None:
    """Every three of four owners are the groups of a class: no split of these suits all four."""
    owners = ["ann", "bob", "cid", "dot"]
    album = [
        Photo(f"{owner} {label}", label, owner)
        for label, left_out in zip("abcd", owners, strict=True)
        for owner in owners
        if owner != left_out
    ]
    splits_by_class = splits_of_classes(album, assign_album(album, split_params()))
    assert all("train" in splits for splits in splits_by_class.values())
    assert any(splits != set(SPLITS) for splits in splits_by_class.values())
