from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import leaks
from pipeline.grouping import Group
from pipeline.leaks import Image, Kind, Leak

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
MEMBERS = st.lists(
    st.tuples(st.sampled_from([None, "train", "val", "test"]), st.sampled_from([None, "x", "y"])),
    max_size=12,
)


def image(key: str, split: str | None, near: str | None = None) -> Image:
    return Image(key, f"cat/{key}.png", "cat", split, near)


def of(*images: Image) -> list[Leak]:
    return leaks.of_group(Group(["ann"], list(range(len(images)))), images)


@pytest.mark.parametrize(
    ("one", "other", "leaving"),
    [("train", "test", "a"), ("train", "val", "a"), ("val", "test", "a"), ("test", "train", "b"),
     ("val", "train", "b"), ("test", "val", "b")],
)  # fmt: skip
def test_the_copy_that_would_train_goes_before_the_one_that_validates(
    one: str, other: str, leaving: str
) -> None:
    pair = {"a": image("a", one), "b": image("b", other)}
    gone, stays = pair[leaving], pair["b" if leaving == "a" else "a"]
    assert of(*pair.values()) == [Leak(gone, Kind.SAME_GROUP, stays)]


def test_of_three_splits_only_test_stays() -> None:
    train, val, test = image("a", "train"), image("b", "val"), image("c", "test")
    found = of(train, val, test)
    assert [(leak.image, leak.stays) for leak in found] == [(train, test), (val, test)]


@pytest.mark.parametrize("split", [None, "train", "val", "test"])
def test_a_group_in_one_split_does_not_leak(split: str | None) -> None:
    assert of(image("a", split), image("b", split), image("c", None)) == []


def test_an_image_that_the_source_says_nothing_of_does_not_leak() -> None:
    free, train, test = image("a", None), image("b", "train"), image("c", "test")
    assert [leak.image for leak in of(free, train, test)] == [train]


def test_a_near_duplicate_is_told_from_an_image_of_the_same_owner() -> None:
    like, other = image("a", "train", "x"), image("b", "train", "y")
    first, twin = image("c", "test"), image("d", "test", "x")
    assert of(like, other, first, twin) == [
        Leak(like, Kind.NEAR_DUPLICATE, twin),
        Leak(other, Kind.SAME_GROUP, first),
    ]


def test_near_duplicates_that_both_leave_are_not_what_either_is_a_copy_of() -> None:
    train, val, test = image("a", "train", "x"), image("b", "val", "x"), image("c", "test")
    assert {leak.kind for leak in of(train, val, test)} == {Kind.SAME_GROUP}


def test_images_outside_the_group_are_left_alone() -> None:
    images = [image("a", "test"), image("b", "train"), image("c", "test"), image("d", "train")]
    (leak,) = leaks.of_group(Group(["ann"], [1, 2]), images)
    assert (leak.image, leak.stays) == (images[1], images[2])


@EXAMPLES
@given(MEMBERS)
def test_what_is_left_of_a_group_is_in_one_split_and_nothing_leaves_without_need(
    members: list[tuple[str | None, str | None]],
) -> None:
    images = [image(str(number), *member) for number, member in enumerate(members)]
    found = of(*images)
    gone = {leak.image for leak in found}
    assert len(gone) == len(found)
    said = [name for name in ("test", "val", "train") if name in {one.split for one in images}]
    assert {one.split for one in images if one not in gone} - {None} == set(said[:1])
    assert bool(gone) == (len(said) > 1)
    assert all(one.split is not None for one in gone)
    for leak in found:
        assert leak.stays not in gone
        assert leaks.RANK[str(leak.stays.split)] < leaks.RANK[str(leak.image.split)]
        twins = [one for one in images if one not in gone and one.split]
        near = leak.image.near is not None and leak.image.near in {one.near for one in twins}
        assert leak.kind == (Kind.NEAR_DUPLICATE if near else Kind.SAME_GROUP)


@EXAMPLES
@given(MEMBERS, st.randoms(use_true_random=False))
def test_what_leaks_does_not_depend_on_the_order(
    members: list[tuple[str | None, str | None]], random: Random
) -> None:
    images = [image(str(number), *member) for number, member in enumerate(members)]
    shuffled = random.sample(images, len(images))

    def told(found: list[Leak]) -> set[tuple[Image, Kind]]:
        return {(leak.image, leak.kind) for leak in found}

    assert told(of(*shuffled)) == told(of(*images))


def test_a_leak_is_a_line_of_the_table() -> None:
    leak = Leak(image("a", "train"), Kind.NEAR_DUPLICATE, image("b", "test"))
    assert dict(zip(leaks.COLUMNS, leak.line(), strict=True)) == {
        "id": "a", "name": "cat/a.png", "label": "cat", "split": "train", "kind": "near_duplicate",
        "stays_id": "b", "stays_name": "cat/b.png", "stays_split": "test",
    }  # fmt: skip
    assert {type(value) for value in leak.line()} == {str}
