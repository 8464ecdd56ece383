from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.split.groups import Group, find_groups

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)


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


def grouped(rows: list[Row]) -> list[Group]:
    return find_groups(
        [row.id for row in rows], [row.owner for row in rows], [row.near for row in rows]
    )


def expected_groups(rows: list[Row]) -> set[frozenset[str]]:
    """The ids of each group, by joining whatever two rows have in common until nothing changes."""
    found = [{row.id} for row in rows]
    for one in rows:
        for other in rows:
            owner, near = one.owner == other.owner, one.near == other.near
            if (owner and one.owner is not None) or (near and one.near is not None):
                joined = [ids for ids in found if {one.id, other.id} & ids]
                found = [ids for ids in found if ids not in joined] + [set().union(*joined)]
    return {frozenset(ids) for ids in found}


@EXAMPLES
@given(ROWS)
def test_a_group_is_all_that_hangs_together(rows: list[Row]) -> None:
    found = grouped(rows)
    assert {frozenset(rows[row].id for row in group.rows) for group in found} == expected_groups(
        rows
    )
    assert sorted(row for group in found for row in group.rows) == list(range(len(rows)))


@EXAMPLES
@given(ROWS)
def test_a_group_knows_its_owners_and_the_ids_of_those_that_have_none(rows: list[Row]) -> None:
    for group in grouped(rows):
        keys = {rows[row].owner or rows[row].id for row in group.rows}
        assert group.keys == sorted(keys)


@EXAMPLES
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(rows: list[Row], random: Random) -> None:
    shuffled = random.sample(rows, len(rows))

    def outcome(ordered: list[Row]) -> set[tuple[tuple[str, ...], frozenset[str]]]:
        return {
            (tuple(group.keys), frozenset(ordered[row].id for row in group.rows))
            for group in grouped(ordered)
        }

    assert outcome(shuffled) == outcome(rows)


@EXAMPLES
@given(ROWS)
def test_groups_and_their_images_keep_the_order_they_came_in(rows: list[Row]) -> None:
    found = [group.rows for group in grouped(rows)]
    assert found == sorted(sorted(group) for group in found)


def test_what_has_neither_owner_nor_likeness_is_alone() -> None:
    assert find_groups(["a", "b"], [None, None], [None, None]) == [
        Group(["a"], [0]),
        Group(["b"], [1]),
    ]


def test_an_owner_without_a_name_is_none() -> None:
    assert find_groups(["a", "b"], ["", ""], [None, None]) == [Group(["a"], [0]), Group(["b"], [1])]


def test_chains_of_owners_and_near_duplicates_are_one_group() -> None:
    ids, owners = ["a", "b", "c", "d", "e"], ["ann", "ann", "bob", "bob", None]
    assert find_groups(ids, owners, [None, "x", "x", "y", "y"]) == [
        Group(["ann", "bob", "e"], [0, 1, 2, 3, 4])
    ]


def test_a_chain_of_any_length_is_one_group() -> None:
    count = 20_000
    ids = [str(number) for number in range(count)]
    owners = [str(number // 2) for number in range(count)]
    near = [str((number + 1) // 2) for number in range(count)]
    (group,) = find_groups(ids, owners, near)
    assert group.rows == list(range(count))


def test_nothing_has_no_groups() -> None:
    assert find_groups([], [], []) == []
