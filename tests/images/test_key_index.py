import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images import key_index
from pipeline.images.key_index import KeyIndex, KeySet, digest_keys

texts = st.lists(st.text(max_size=20))
digests = st.lists(st.integers(0, 5), max_size=30)  # few, so that many are equal


@settings(derandomize=True, max_examples=50)
@given(texts, texts)
def test_a_digest_depends_on_its_key_alone(before: list[str], keys: list[str]) -> None:
    column = pa.array(before + keys, pa.string())
    together = digest_keys(column.slice(len(before)))
    alone = [digest_keys(pa.array([key], pa.string()))[0] for key in keys]
    assert together.tolist() == alone


def test_digests_of_similar_keys_differ() -> None:
    keys = {f"{number:064x}"[::step] for number in range(10_000) for step in (1, -1)}
    assert len(np.unique(digest_keys(pa.array(sorted(keys))))) == len(keys)


def all_positions(index: KeyIndex, wanted: list[int]) -> list[list[int]]:
    lists: list[list[int]] = [[] for _ in wanted]
    for rows, positions in index.candidates(np.array(wanted, np.uint64)):
        assert len(set(rows.tolist())) == len(rows)
        for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
            lists[row].append(position)
    return [sorted(positions) for positions in lists]


@settings(derandomize=True, max_examples=50)
@given(st.lists(digests, max_size=8), digests, st.data())
def test_the_index_has_the_positions_of_every_digest(
    parts: list[list[int]], wanted: list[int], data: st.DataObject
) -> None:
    index = KeyIndex()
    model: dict[int, int] = {}  # digests by position
    for part in parts:
        positions = np.arange(len(model), len(model) + len(part))
        index.add(np.array(part, np.uint64), positions)
        model |= dict(zip(positions.tolist(), part, strict=True))

    def expected() -> list[list[int]]:
        return [sorted(p for p, digest in model.items() if digest == w) for w in wanted]

    assert all_positions(index, wanted) == expected()
    some = st.lists(st.sampled_from(sorted(model)), unique=True) if model else st.just([])
    moved = data.draw(some)
    new = [position + 1000 for position in moved]
    digests_of = np.array([model[position] for position in moved], np.uint64)
    index.move(digests_of, np.array(moved, np.int64), np.array(new, np.int64))
    model = {position + 1000 * (position in moved): digest for position, digest in model.items()}
    assert all_positions(index, wanted) == expected()
    removed = [position for position in model if position % 3 == 0]
    index.remove(np.array(removed, np.int64))
    model = {position: digest for position, digest in model.items() if position % 3}
    assert all_positions(index, wanted) == expected()


def test_the_index_has_few_runs_however_many_parts_are_added() -> None:
    index = KeyIndex()
    for number in range(1000):
        index.add(np.array([number], np.uint64), np.array([number]))
    assert len(list(index.candidates(np.arange(1000, dtype=np.uint64)))) <= 10


@settings(derandomize=True, max_examples=50)
@given(texts, texts)
def test_a_set_of_keys_contains_them_alone(keys: list[str], others: list[str]) -> None:
    members, wanted = (pa.array(values, pa.string()) for values in (keys, others + keys))
    expected = [key in keys for key in others] + [True] * len(keys)
    assert KeySet(members).contains(wanted).tolist() == expected
    assert KeySet(members).contains(wanted.slice(len(others))).all()


def test_keys_of_equal_digests_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "digest_keys", lambda keys: np.zeros(len(keys), np.uint64))
    keys = KeySet(pa.array(["a", "b"]))
    assert len(keys) == 2
    assert keys.contains(pa.array(["c", "b", "a"])).tolist() == [False, True, True]
