import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import atomic, params, shards, split
from pipeline.errors import PipelineError
from pipeline.params import Split

CHOSEN = Split(seed=1, val=0.2, test=0.3)
KEYS = st.lists(st.text(max_size=5), max_size=40)
CHOICES = st.builds(
    Split, seed=st.integers(0, 99), val=st.floats(0.05, 0.45), test=st.floats(0.05, 0.45)
)
PRESCRIBED = st.sampled_from([None, "train", "val", "test"])
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=50)


def shares(splits: list[str]) -> dict[str, float]:
    return {name: count / len(splits) for name, count in Counter(splits).items()}


@EXAMPLES
@given(KEYS, KEYS, CHOICES)
def test_adding_images_moves_none_that_was_there(
    old: list[str], new: list[str], chosen: Split
) -> None:
    before = split.assign(old, [None] * len(old), chosen)
    after = split.assign(old + new, [None] * len(old + new), chosen)
    assert after[: len(old)] == before


@EXAMPLES
@given(
    st.lists(st.tuples(st.text(max_size=3), PRESCRIBED)), CHOICES, st.randoms(use_true_random=False)
)
def test_the_order_of_the_images_does_not_matter(
    images: list[tuple[str, str | None]], chosen: Split, random: Random
) -> None:
    def dealt(ordered: list[tuple[str, str | None]]) -> list[tuple[str, str | None, str]]:
        keys, said = [key for key, _ in ordered], [split for _, split in ordered]
        found = split.assign(keys, said, chosen)
        return [(*image, name) for image, name in zip(ordered, found, strict=True)]

    shuffled = list(images)
    random.shuffle(shuffled)
    assert sorted(dealt(images), key=repr) == sorted(dealt(shuffled), key=repr)


@EXAMPLES
@given(st.lists(st.sampled_from("abcdef"), max_size=40), CHOICES, st.sampled_from([None, "train"]))
def test_a_group_never_straddles(keys: list[str], chosen: Split, said: str | None) -> None:
    dealt = split.assign(keys, [said] * len(keys), chosen)
    assert len(set(zip(keys, dealt, strict=True))) == len(set(keys))


@EXAMPLES
@given(st.lists(st.tuples(st.text(max_size=3), PRESCRIBED)), CHOICES)
def test_what_the_source_puts_in_val_or_test_stays_there(
    images: list[tuple[str, str | None]], chosen: Split
) -> None:
    said = [name for _, name in images]
    dealt = split.assign([key for key, _ in images], said, chosen)
    kept = [(before, after) for before, after in zip(said, dealt, strict=True)]
    assert all(after == before for before, after in kept if before in {"val", "test"})
    assert set(dealt) <= set(split.SPLITS)


@EXAMPLES
@given(st.lists(st.text(max_size=3)), CHOICES, st.lists(PRESCRIBED, max_size=3))
def test_a_train_set_gives_nothing_to_splits_the_source_has(
    keys: list[str], chosen: Split, others: list[str | None]
) -> None:
    said = ["train"] * len(keys) + others
    dealt = split.assign(keys + ["x"] * len(others), said, chosen)[: len(keys)]
    assert not set(dealt) & (set(others) - {None, "train"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"train": 0.5, "val": 0.2, "test": 0.3}),
        ({"test"}, {"train": 0.8, "val": 0.2}),
        ({"val"}, {"train": 0.7, "test": 0.3}),
        ({"val", "test"}, {"train": 1.0}),
    ],
    ids=["nothing", "test", "val", "both"],
)
def test_shares_hold_of_a_train_set(given: set[str], expected: dict[str, float]) -> None:
    count = 20_000
    keys = [str(number) for number in range(count)] + ["x"] * len(given)
    dealt = split.assign(keys, ["train"] * count + sorted(given), CHOSEN)[:count]
    assert shares(dealt) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_of_images_that_nobody_assigned(seed: int) -> None:
    keys = [str(number) for number in range(20_000)]
    dealt = split.assign(keys, [None] * len(keys), Split(seed=seed, val=0.2, test=0.3))
    assert shares(dealt) == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.015)


def test_a_larger_share_takes_from_train_alone() -> None:
    keys = [str(number) for number in range(1000)]
    said = [None] * len(keys)
    before = split.assign(keys, said, CHOSEN)
    after = split.assign(keys, said, Split(seed=1, val=0.4, test=0.3))
    moved = {(a, b) for a, b in zip(before, after, strict=True) if a != b}
    assert moved == {("train", "val")}


def test_another_seed_deals_anew() -> None:
    keys = [str(number) for number in range(1000)]
    said = [None] * len(keys)
    assert split.assign(keys, said, CHOSEN) != split.assign(
        keys, said, Split(seed=2, val=0.2, test=0.3)
    )


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"class 'cat': a classifier needs at least two"):
        split.check(["cat"] * 3, ["train", "val", "test"])


@pytest.mark.parametrize("lacking", split.SPLITS)
def test_a_class_that_lacks_a_split_is_named(lacking: str) -> None:
    labels = ["cat"] * 3 + ["dog"] * 3
    splits = [*split.SPLITS, *(name for name in split.SPLITS if name != lacking), "train"]
    if lacking == "train":
        splits[-1] = "val"
    with pytest.raises(PipelineError) as caught:
        split.check(labels, splits)
    said = str(caught.value)
    assert said.startswith(f"class 'dog' has no image in {lacking} (of 3 in all): add images, ")
    assert "split.seed" in said


def test_a_class_in_every_split_passes() -> None:
    split.check(["cat"] * 3 + ["dog"] * 3, list(split.SPLITS) * 2)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml."""
    shipped = params.load(Path(__file__).parent.parent / "params.yaml")
    overrides = {"split.seed": 1, "split.val": 0.2, "split.test": 0.3}
    chosen = params.with_overrides(shipped, overrides)
    (tmp_path / "params.yaml").write_text(json.dumps(chosen.model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def image(number: int, group: str | None = None, said: str | None = None) -> dict[str, object]:
    return {
        "id": f"{number:03d}", "label": ("cat", "dog")[number % 2], "name": f"{number}.png",
        "split": said, "group": group, "width": 32, "height": 32, "phash": 0, "bytes": b"",
    }  # fmt: skip


def test_the_stage_writes_every_image_in_the_order_of_ids(project: Path) -> None:
    rows = [image(number, f"owner {number % 20}") for number in range(100)]
    shards.write(project / "clean", shards.CLEAN, reversed(rows))
    split.main(project / "clean", project / "split.csv")
    table = atomic.read_csv(project / "split.csv")
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert {(row["label"], row["group"]) for row in table} == {
        (row["label"], row["group"]) for row in rows
    }
    of_group = {(row["group"], row["split"]) for row in table}
    assert len(of_group) == 20


def test_the_stage_deals_by_id_where_there_is_no_group(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [image(number) for number in range(60)] + [
        image(number, said="test") for number in range(60, 70)
    ]
    shards.write(project / "clean", shards.CLEAN, rows)
    split.main(project / "clean", project / "split.csv")
    table = atomic.read_csv(project / "split.csv")
    ids = [f"{number:03d}" for number in range(60)]
    assert [row["split"] for row in table[:60]] == split.assign(ids, [None] * 60, CHOSEN)
    assert {row["split"] for row in table[60:]} == {"test"}
    assert {row["group"] for row in table} == {""}
    counts = Counter(row["split"] for row in table)
    assert capsys.readouterr().out == (
        f"split: {counts['train']} train, {counts['val']} val, {counts['test']} test\n"
    )


def test_a_split_that_cannot_be_used_is_not_written(project: Path) -> None:
    shards.write(project / "clean", shards.CLEAN, [image(0), image(1)])
    with pytest.raises(PipelineError, match="has no image in"):
        split.main(project / "clean", project / "split.csv")
    assert not (project / "split.csv").exists()
