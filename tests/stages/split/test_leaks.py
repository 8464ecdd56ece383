from dataclasses import asdict, astuple
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.shards import split_rank
from pipeline.core.split_csv import read_leaks
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.stages.split import leaks
from pipeline.stages.split.groups import Group
from pipeline.stages.split.images import Image
from pipeline.stages.split.leaks import Kind, Leak
from tests.builders.params import split_params

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
MEMBERS = st.lists(
    st.tuples(st.sampled_from([None, "train", "val", "test"]), st.sampled_from([None, "x", "y"])),
    max_size=12,
)


def image(key: str, split: str | None, near: str | None = None) -> Image:
    return Image(key, f"cat/{key}.png", "cat", split, near)


def of(*images: Image) -> list[Leak]:
    return leaks.find_group_leaks(Group(["ann"], list(range(len(images)))), images)


@pytest.mark.parametrize(
    ("one", "other", "leaving"),
    [
        ("train", "test", "a"),
        ("train", "val", "a"),
        ("val", "test", "a"),
        ("test", "train", "b"),
        ("val", "train", "b"),
        ("test", "val", "b"),
    ],
)
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
    (leak,) = leaks.find_group_leaks(Group(["ann"], [1, 2]), images)
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
        assert split_rank(leak.stays.split) > split_rank(leak.image.split)
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

    def outcome(found: list[Leak]) -> set[tuple[Image, Kind]]:
        return {(leak.image, leak.kind) for leak in found}

    assert outcome(of(*shuffled)) == outcome(of(*images))


def test_a_leak_is_a_line_of_the_table() -> None:
    leak = Leak(image("a", "train"), Kind.NEAR_DUPLICATE, image("b", "test"))
    row = leak.row()
    assert asdict(row) == {
        "id": "a",
        "name": "cat/a.png",
        "label": "cat",
        "split": "train",
        "kind": "near_duplicate",
        "stays_id": "b",
        "stays_name": "cat/b.png",
        "stays_split": "test",
    }
    assert {type(value) for value in astuple(row)} == {str}


def verdict(
    key: str, said: str, reason: str = "duplicate", name: str = "copy.png", near: str = ""
) -> VerdictRow:
    return VerdictRow(key, name, "cat", said, "reject" if reason else "keep", reason, "", near)


def find(images: list[Image], *verdicts: VerdictRow) -> list[Leak]:
    """Where each image is a group of its own."""
    return leaks.find_leaks(
        [Group([one.id], [n]) for n, one in enumerate(images)], images, verdicts
    )


def test_the_same_bytes_in_two_splits_leak() -> None:
    stays = image("a", "test")
    (leak,) = find([image("b", "test"), stays], verdict("a", "train"))
    assert leak == Leak(Image("a", "copy.png", "cat", "train", None), Kind.DUPLICATE, stays)


def test_a_copy_that_the_filter_left_out_for_its_likeness_leaks() -> None:
    stays = image("b", "val", "a")
    (leak,) = find([stays, image("c", "val")], verdict("a", "train", "near_duplicate", near="a"))
    assert leak == Leak(Image("a", "copy.png", "cat", "train", None), Kind.NEAR_DUPLICATE, stays)


def test_of_several_that_are_like_it_the_one_in_the_last_split_is_told() -> None:
    """With keep_one, one stays of each label."""
    album = [image("a", "train", "x"), image("b", "test", "x"), image("c", "val", "x")]
    rejected = verdict("d", "train", "near_duplicate", near="x")
    for images in (album, album[::-1]):
        (leak,) = find(images, rejected)
        assert leak.stays == album[1]


@pytest.mark.parametrize(
    "rejected",
    [
        verdict("a", "test"),  # a copy in the same split
        verdict("a", ""),  # the source says nothing of the copy
        verdict("b", "train"),  # no copy of it was kept
        verdict("c", "train"),  # the source says nothing of the one that was kept
        verdict("a", "train", "conflicting_labels"),
        verdict("a", "train", "by_hand", near="x"),
        verdict("a", "test", ""),  # itself
        verdict("d", "test", "near_duplicate", near="x"),
        verdict("d", "", "near_duplicate", near="x"),
        verdict("d", "train", "near_duplicate", near="y"),
        verdict("d", "train", "near_duplicate", near="z"),
    ],
)
def test_other_verdicts_are_no_leaks(rejected: VerdictRow) -> None:
    assert find([image("a", "test", "x"), image("c", None, "z")], rejected) == []


def test_every_copy_of_the_same_bytes_is_told() -> None:
    copies = [verdict("a", "train", name="1.png"), verdict("a", "val", name="2.png")]
    found = find([image("a", "test")], *copies)
    assert [leak.image.name for leak in found] == ["1.png", "2.png"]


def test_what_the_filter_left_out_comes_before_what_groups_share() -> None:
    images = [image("a", "train"), image("b", "test"), image("c", "test")]
    groups = [Group(["ann"], [0, 1]), Group(["c"], [2])]
    found = leaks.find_leaks(groups, images, [verdict("c", "val")])
    assert [(leak.image.id, leak.kind) for leak in found] == [
        ("c", Kind.DUPLICATE),
        ("a", Kind.SAME_GROUP),
    ]


def leaking(count: int) -> list[Leak]:
    return [
        Leak(image(f"a{number}", "train"), Kind.SAME_GROUP, image(f"b{number}", "test"))
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, leaks.MAX_PRINTED, leaks.MAX_PRINTED + 1])
def test_the_gate_tells_the_first_and_writes_all(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, path = leaking(count), tmp_path / "data" / "leaks.csv"
    leaks.handle_leaks(found, split_params(), path)
    first, *named = capsys.readouterr().out.splitlines()
    assert first == (
        f"split: {count} images of the source are in a later split of the source too, and are "
        f"not used; see {path}:"
    )
    assert named == [
        f"  cat/a{number}.png (same_group of cat/b{number}.png)"
        for number in range(min(count, leaks.MAX_PRINTED))
    ]
    assert read_leaks(path) == [leak.row() for leak in found]


def test_the_strict_gate_refuses_and_writes_all(tmp_path: Path) -> None:
    path = tmp_path / "leaks.csv"
    with pytest.raises(PipelineError) as caught:
        leaks.handle_leaks(leaking(7), split_params(leaks="fail"), path)
    assert str(caught.value) == (
        "7 images of the source are in a later split of the source too "
        f"({path}): correct the source, or leave them out with split.leaks=drop"
    )
    assert len(read_leaks(path)) == 7


@pytest.mark.parametrize("way", ["drop", "fail"])
def test_nothing_that_leaks_passes_in_silence_and_leaves_an_empty_table(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leaks.csv"
    path.write_text("of the last run")
    leaks.handle_leaks([], split_params(leaks=way), path)
    assert capsys.readouterr().out == ""
    assert path.read_text() == "id,name,label,split,kind,stays_id,stays_name,stays_split\n"
