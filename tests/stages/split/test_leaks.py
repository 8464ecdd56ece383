from dataclasses import asdict, astuple
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.shards import split_rank
from pipeline.core.split_csv import read_leaks
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.stages.split import leaks
from pipeline.stages.split.assignment.groups import Group, find_groups
from pipeline.stages.split.assignment.images import Image
from pipeline.stages.split.leaks import Leak, LeakKind
from tests.builders.albums import groups_of, images_of, text_column
from tests.builders.params import split_params

EXAMPLES = settings(derandomize=True, max_examples=100)
MEMBERS = st.lists(
    st.tuples(st.sampled_from([None, "train", "val", "test"]), st.sampled_from([None, "x", "y"])),
    max_size=12,
)


def make_image(key: str, split: str | None, near: str | None = None) -> Image:
    return Image(key, f"cat/{key}.png", "cat", split, near)


def group_leaks(*images: Image) -> list[Leak]:
    return leaks.find_group_leaks(images)


@pytest.mark.parametrize(
    ("first", "second", "leaving"),
    [
        ("train", "test", "a"),
        ("train", "val", "a"),
        ("val", "test", "a"),
        ("test", "train", "b"),
        ("val", "train", "b"),
        ("test", "val", "b"),
    ],
)
def test_train_leaves_before_val_and_val_before_test(first: str, second: str, leaving: str) -> None:
    pair = {"a": make_image("a", first), "b": make_image("b", second)}
    gone, stays = pair[leaving], pair["b" if leaving == "a" else "a"]
    assert group_leaks(*pair.values()) == [Leak(gone, LeakKind.SAME_GROUP, stays)]


def test_only_test_stays_when_a_group_is_in_three_splits() -> None:
    train, val, test = make_image("a", "train"), make_image("b", "val"), make_image("c", "test")
    found_leaks = group_leaks(train, val, test)
    assert [(leak.image, leak.stays) for leak in found_leaks] == [(train, test), (val, test)]


@pytest.mark.parametrize("split", [None, "train", "val", "test"])
def test_a_group_in_one_split_does_not_leak(split: str | None) -> None:
    assert group_leaks(make_image("a", split), make_image("b", split), make_image("c", None)) == []


def test_an_image_without_a_prescribed_split_does_not_leak() -> None:
    free, train, test = make_image("a", None), make_image("b", "train"), make_image("c", "test")
    assert [leak.image for leak in group_leaks(free, train, test)] == [train]


def test_near_duplicates_and_images_of_one_owner_are_different_kinds() -> None:
    like, other = make_image("a", "train", "x"), make_image("b", "train", "y")
    first, twin = make_image("c", "test"), make_image("d", "test", "x")
    assert group_leaks(like, other, first, twin) == [
        Leak(like, LeakKind.NEAR_DUPLICATE, twin),
        Leak(other, LeakKind.SAME_GROUP, first),
    ]


def test_near_duplicates_that_both_leave_are_reported_as_the_same_group() -> None:
    train, val, test = (
        make_image("a", "train", "x"),
        make_image("b", "val", "x"),
        make_image("c", "test"),
    )
    assert {leak.kind for leak in group_leaks(train, val, test)} == {LeakKind.SAME_GROUP}


def test_only_groups_in_several_splits_leak() -> None:
    images = [
        make_image("a", "test"),
        make_image("b", "train"),
        make_image("c", "test"),
        make_image("d", "train"),
    ]
    owners = text_column(["ann", "bob", "bob", "cid"])
    columns = images_of(images)
    (leak,) = leaks.find_leaks(
        find_groups(columns.ids, owners, columns.near), columns, [], split_params()
    )
    assert (leak.image, leak.stays) == (images[1], images[2])


@EXAMPLES
@given(MEMBERS)
def test_the_rest_of_a_group_is_in_one_split_and_no_image_leaves_needlessly(
    members: list[tuple[str | None, str | None]],
) -> None:
    images = [make_image(str(number), *member) for number, member in enumerate(members)]
    found_leaks = group_leaks(*images)
    leaving = {leak.image for leak in found_leaks}
    assert len(leaving) == len(found_leaks)
    prescribed = [
        name for name in ("test", "val", "train") if name in {image.split for image in images}
    ]
    assert {image.split for image in images if image not in leaving} - {None} == set(prescribed[:1])
    assert bool(leaving) == (len(prescribed) > 1)
    assert all(image.split is not None for image in leaving)
    for leak in found_leaks:
        assert leak.stays not in leaving
        assert split_rank(leak.stays.split) > split_rank(leak.image.split)
        twins = [image for image in images if image not in leaving and image.split]
        near = leak.image.near is not None and leak.image.near in {image.near for image in twins}
        assert leak.kind == (LeakKind.NEAR_DUPLICATE if near else LeakKind.SAME_GROUP)


@EXAMPLES
@given(MEMBERS, st.randoms(use_true_random=False))
def test_leaks_do_not_depend_on_the_order_of_the_images(
    members: list[tuple[str | None, str | None]], random: Random
) -> None:
    images = [make_image(str(number), *member) for number, member in enumerate(members)]
    shuffled = random.sample(images, len(images))

    def outcome(found_leaks: list[Leak]) -> set[tuple[Image, LeakKind]]:
        return {(leak.image, leak.kind) for leak in found_leaks}

    assert outcome(group_leaks(*shuffled)) == outcome(group_leaks(*images))


def test_a_leak_is_a_row_of_the_table() -> None:
    leak = Leak(make_image("a", "train"), LeakKind.NEAR_DUPLICATE, make_image("b", "test"))
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
    key: str, split: str, reason: str = "duplicate", name: str = "copy.png", near: str = ""
) -> VerdictRow:
    return VerdictRow(key, name, "cat", split, "reject" if reason else "keep", reason, "", near)


def find_leaks(images: list[Image], *verdicts: VerdictRow) -> list[Leak]:
    """Find leaks among images that are groups of their own."""
    groups = groups_of([Group([image.id], [n]) for n, image in enumerate(images)])
    return list(leaks.find_leaks(groups, images_of(images), verdicts, split_params()))


def test_the_same_bytes_in_two_splits_leak() -> None:
    stays = make_image("a", "test")
    (leak,) = find_leaks([make_image("b", "test"), stays], verdict("a", "train"))
    assert leak == Leak(Image("a", "copy.png", "cat", "train", None), LeakKind.DUPLICATE, stays)


def test_a_near_duplicate_that_the_filter_rejected_leaks() -> None:
    stays = make_image("b", "val", "a")
    (leak,) = find_leaks(
        [stays, make_image("c", "val")], verdict("a", "train", "near_duplicate", near="a")
    )
    assert leak == Leak(
        Image("a", "copy.png", "cat", "train", None), LeakKind.NEAR_DUPLICATE, stays
    )


def test_the_near_duplicate_in_the_latest_split_is_reported() -> None:
    """With keep_one, one image of each label stays."""
    album = [
        make_image("a", "train", "x"),
        make_image("b", "test", "x"),
        make_image("c", "val", "x"),
    ]
    rejected = verdict("d", "train", "near_duplicate", near="x")
    for images in (album, album[::-1]):
        (leak,) = find_leaks(images, rejected)
        assert leak.stays == album[1]


@pytest.mark.parametrize(
    "rejected",
    [
        verdict("a", "test"),  # a copy in the same split
        verdict("a", ""),  # the source prescribes no split for the copy
        verdict("b", "train"),  # no copy of it passed the filter
        verdict("c", "train"),  # no split is prescribed for the copy that passed the filter
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
    assert find_leaks([make_image("a", "test", "x"), make_image("c", None, "z")], rejected) == []


def test_every_copy_of_the_same_bytes_is_reported() -> None:
    copies = [verdict("a", "train", name="1.png"), verdict("a", "val", name="2.png")]
    found_leaks = find_leaks([make_image("a", "test")], *copies)
    assert [leak.image.name for leak in found_leaks] == ["1.png", "2.png"]


def test_leaks_of_rejected_images_come_before_leaks_of_groups() -> None:
    images = [make_image("a", "train"), make_image("b", "test"), make_image("c", "test")]
    groups = groups_of([Group(["ann"], [0, 1]), Group(["c"], [2])])
    found_leaks = leaks.find_leaks(groups, images_of(images), [verdict("c", "val")], split_params())
    assert [(leak.image.id, leak.kind) for leak in found_leaks] == [
        ("c", LeakKind.DUPLICATE),
        ("a", LeakKind.SAME_GROUP),
    ]


def make_leaks(count: int) -> list[Leak]:
    return [
        Leak(
            make_image(f"a{number}", "train"), LeakKind.SAME_GROUP, make_image(f"b{number}", "test")
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, leaks.MAX_PRINTED, leaks.MAX_PRINTED + 1])
def test_the_first_leaks_are_printed_and_all_are_written(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found_leaks, path = make_leaks(count), tmp_path / "data" / "leaks.csv"
    leaks.handle_leaks(found_leaks, split_params(), path)
    first, *named = capsys.readouterr().out.splitlines()
    assert first == (
        f"split: {plural(count, 'image of the source is', 'images of the source are')} in a later "
        "split of the source too, and "
        f"not used; see {path}:"
    )
    assert named == [
        f"  cat/a{number}.png (same_group of cat/b{number}.png)"
        for number in range(min(count, leaks.MAX_PRINTED))
    ]
    assert list(read_leaks(path)) == [leak.row() for leak in found_leaks]


def test_leaks_fail_raises_and_writes_all_leaks(tmp_path: Path) -> None:
    path = tmp_path / "leaks.csv"
    with pytest.raises(PipelineError) as caught:
        leaks.handle_leaks(make_leaks(7), split_params(leaks="fail"), path)
    assert str(caught.value) == (
        "7 images of the source are in a later split of the source too "
        f"({path}): correct the source, or leave out such images with split.leaks=drop"
    )
    assert len(read_leaks(path)) == 7


@pytest.mark.parametrize("way", ["drop", "fail"])
def test_without_leaks_nothing_is_printed_and_the_table_is_empty(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leaks.csv"
    path.write_text("of the last run")
    leaks.handle_leaks([], split_params(leaks=way), path)
    assert capsys.readouterr().out == ""
    assert path.read_text() == "id,name,label,split,kind,stays_id,stays_name,stays_split\n"
