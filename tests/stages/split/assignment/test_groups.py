from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.split.assignment.groups import Group, find_groups
from tests.builders.albums import text_column

EXAMPLES = settings(derandomize=True, max_examples=100)


class Row(NamedTuple):
    id: str
    owner: str | None
    near: str | None


ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 999).map("{:03d}".format),
        st.none() | st.sampled_from(["ann", "bob", "cid", "dot", "eve"]),
        st.none() | st.sampled_from("uvwxyz"),
    ),
    max_size=20,
    unique_by=lambda row: row.id,
)


def build_groups(rows: list[Row]) -> list[Group]:
    return find([row.id for row in rows], [row.owner for row in rows], [row.near for row in rows])


def find(
    ids: Sequence[str], owners: Sequence[str | None], near: Sequence[str | None]
) -> list[Group]:
    groups = find_groups(text_column(ids), text_column(owners), text_column(near))
    assert len(groups) == len(list(groups))
    return list(groups)


def expected_groups(rows: list[Row]) -> set[frozenset[str]]:
    """The ids of each group, by joining every two rows that share an owner or near-duplicate."""
    groups = [{first.id} for first in rows]
    for row in rows:
        for other in rows:
            owner, near = row.owner == other.owner, row.near == other.near
            if (owner and row.owner is not None) or (near and row.near is not None):
                touching = [ids for ids in groups if {row.id, other.id} & ids]
                groups = [ids for ids in groups if ids not in touching] + [set().union(*touching)]
    return {frozenset(ids) for ids in groups}


@EXAMPLES
@given(ROWS)
def test_a_group_is_a_connected_component(rows: list[Row]) -> None:
    groups = build_groups(rows)
    assert {frozenset(rows[row].id for row in group.rows) for group in groups} == expected_groups(
        rows
    )
    assert sorted(row for group in groups for row in group.rows) == list(range(len(rows)))


@EXAMPLES
@given(ROWS)
def test_the_keys_of_a_group_are_its_owners_and_the_ids_without_an_owner(rows: list[Row]) -> None:
    for group in build_groups(rows):
        keys = {rows[row].owner or rows[row].id for row in group.rows}
        assert group.keys == sorted(keys)


@EXAMPLES
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(rows: list[Row], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))

    def outcome(ordered: list[Row]) -> set[tuple[tuple[str, ...], frozenset[str]]]:
        return {
            (tuple(group.keys), frozenset(ordered[row].id for row in group.rows))
            for group in build_groups(ordered)
        }

    assert outcome(shuffled) == outcome(rows)


@EXAMPLES
@given(ROWS)
def test_groups_and_their_images_keep_the_order_of_the_input(rows: list[Row]) -> None:
    group_rows = [group.rows for group in build_groups(rows)]
    assert group_rows == sorted(sorted(group) for group in group_rows)


def test_an_image_without_owner_and_near_duplicates_is_alone() -> None:
    assert find(["a", "b"], [None, None], [None, None]) == [
        Group(["a"], [0]),
        Group(["b"], [1]),
    ]


def test_an_empty_owner_is_no_owner() -> None:
    assert find(["a", "b"], ["", ""], [None, None]) == [Group(["a"], [0]), Group(["b"], [1])]


def test_chains_of_owners_and_near_duplicates_are_one_group() -> None:
    ids, owners = ["a", "b", "c", "d", "e"], ["ann", "ann", "bob", "bob", None]
    assert find(ids, owners, [None, "x", "x", "y", "y"]) == [
        Group(["ann", "bob", "e"], [0, 1, 2, 3, 4])
    ]


def test_a_chain_of_any_length_is_one_group() -> None:
    count = 20_000
    ids = [str(number) for number in range(count)]
    owners = [str(number // 2) for number in range(count)]
    near = [str((number + 1) // 2) for number in range(count)]
    (group,) = find(ids, owners, near)
    assert group.rows == list(range(count))


def test_no_images_make_no_groups() -> None:
    assert find([], [], []) == []
