import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.leaks_csv import read_leaks
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import SplitRow, read_split
from pipeline.core.verdicts_csv import VerdictRow, write_verdicts
from pipeline.params import SplitParams, load_params, with_overrides
from pipeline.stages.split import __main__ as split
from pipeline.stages.split import assignment, leaks
from pipeline.stages.split.groups import find_groups
from pipeline.stages.split.images import Image
from tests import ROOT
from tests.builders.params import locked_code, split_params

EXAMPLES = settings(deadline=None, derandomize=True, max_examples=100)
SAID = st.sampled_from([None, "train", "val", "test"])


class Photo(NamedTuple):
    """What decides where an image goes."""

    id: str
    label: str = "cat"
    owner: str | None = None
    like: str | None = None
    """What it shows: images of the same are near-duplicates."""
    said: str | None = None


def photos(said: st.SearchStrategy[str | None], max_size: int = 25) -> Any:
    return st.lists(
        st.builds(
            Photo,
            id=st.integers(0, 999).map("{:03d}".format),
            label=st.sampled_from(["cat", "dog"]),
            owner=st.none() | st.sampled_from(["ann", "bob", "cid", "dot", "eve", "flo"]),
            like=st.none() | st.sampled_from("pqrstu"),
            said=said,
        ),
        max_size=max_size,
        unique_by=lambda photo: photo.id,
    )


CHOSEN = split_params()
SEEDS = st.integers(0, 99)
SHARES = st.builds(split_params, seed=SEEDS, val=st.floats(0.05, 0.45), test=st.floats(0.05, 0.45))
NUMBERS = st.builds(
    split_params,
    seed=SEEDS,
    val=st.integers(1, 2),
    test=st.integers(1, 2),
    train=st.none() | st.integers(1, 2),
)
FOLDS = st.builds(split_params, seed=SEEDS, folds=st.just(3), fold=st.integers(0, 2))
MODES = {
    "shares": (SHARES, SAID),
    "numbers": (NUMBERS, SAID),
    "folds": (FOLDS, st.none()),
    "folds of what was prescribed": (
        st.builds(split_params, seed=SEEDS, folds=st.just(3), prescribed=st.just(False)),
        SAID,
    ),
}
Dealt = dict[str, str | None]


def read(album: Sequence[Photo]) -> tuple[list[Image], list[Any]]:
    """As the clean shards have them: near-duplicates are named after the smallest id of them."""
    of: dict[str | None, list[str]] = {}
    for photo in album:
        of.setdefault(photo.like, []).append(photo.id)
    near = [
        min(of[photo.like]) if photo.like and len(of[photo.like]) > 1 else None for photo in album
    ]
    images = [
        Image(photo.id, f"{photo.id}.png", photo.label, photo.said, name)
        for photo, name in zip(album, near, strict=True)
    ]
    return images, find_groups(
        [photo.id for photo in album], [photo.owner for photo in album], near
    )


def deal(
    album: Sequence[Photo], params: SplitParams, before: Mapping[str, str | None] = {}
) -> Dealt:
    images, found = read(album)
    was = {row: name for row, image in enumerate(images) if (name := before.get(image.id))}
    splits = assignment.assign(found, images, params, was)
    return {photo.id: name for photo, name in zip(album, splits, strict=True)}


def straddling(album: Sequence[Photo], dealt: Dealt) -> list[str]:
    """Owners, and what near-duplicates show, that are in several splits."""
    where: dict[str, set[str]] = {}
    for photo in album:
        for thing in (photo.owner, photo.like):
            if thing and (name := dealt[photo.id]):
                where.setdefault(thing, set()).add(name)
    return [thing for thing, splits in where.items() if len(splits) > 1]


def shares(splits: Sequence[str | None]) -> dict[str | None, float]:
    return {name: count / len(splits) for name, count in Counter(splits).items()}


@pytest.mark.parametrize("mode", MODES)
def test_no_owner_and_no_near_duplicates_straddle(mode: str) -> None:
    settings, said = MODES[mode]

    @EXAMPLES
    @given(photos(said), settings, st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID))
    def holds(album: list[Photo], params: SplitParams, before: Dealt) -> None:
        try:
            dealt = deal(album, params, before)
        except PipelineError:
            assert params.is_exact
        else:
            assert not straddling(album, dealt)
            assert set(dealt.values()) <= {*SPLITS, None}

    holds()


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_images_does_not_matter(mode: str) -> None:
    settings, said = MODES[mode]

    @EXAMPLES
    @given(
        photos(said),
        settings,
        st.randoms(use_true_random=False),
        st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID),
    )
    def holds(album: list[Photo], params: SplitParams, random: Random, before: Dealt) -> None:
        def told(ordered: list[Photo]) -> object:
            try:
                return deal(ordered, params, before)
            except PipelineError as error:
                return str(error)

        assert told(random.sample(album, len(album))) == told(album)

    holds()


def hang_together(album: Sequence[Photo]) -> list[set[str]]:
    return [{album[row].id for row in group.rows} for group in read(album)[1]]


@settings(EXAMPLES, max_examples=400)
@given(photos(st.none(), 40), SHARES, st.lists(st.integers(0, 40), max_size=3), st.randoms())
def test_an_image_moves_only_when_a_new_one_joins_its_group_to_one_in_another_split(
    album: list[Photo], params: SplitParams, arrivals: list[int], random: Random
) -> None:
    """Over up to four runs, each of which sees what the one before it has dealt."""
    before: Dealt = {}
    for end in [*sorted(arrivals), len(album)]:
        there = album[:end]
        random.shuffle(there)
        now = deal(there, params, before)
        for group in hang_together(there):
            was = Counter(before[key] for key in group if key in before)
            (stands,) = {now[key] for key in group}
            most = {name for name, count in was.items() if count == max(was.values())}
            assert not was or stands in most
            assert len(was) < 2 or group - set(before), "a new image has joined them"
        before = now


@EXAMPLES
@given(photos(st.none()), photos(st.none()), SHARES)
def test_images_that_join_no_group_move_none(
    old: list[Photo], new: list[Photo], params: SplitParams
) -> None:
    def apart(photo: Photo) -> Photo:
        return photo._replace(
            id=f"new {photo.id}",
            owner=photo.owner and f"new {photo.owner}",
            like=photo.like and f"new {photo.like}",
        )

    before = deal(old, params)
    for known in ({}, before):  # neither with the last run nor without
        now = deal(old + [apart(photo) for photo in new], params, known)
        assert {key: now[key] for key in before} == before


@EXAMPLES
@given(photos(st.none()), SHARES, st.dictionaries(st.integers(0, 999).map("{:03d}".format), SAID))
def test_a_single_stays_where_it_was_or_goes_where_it_would_alone(
    album: list[Photo], params: SplitParams, before: Dealt
) -> None:
    dealt = deal(album, params, before)
    for photo in album:
        if photo.owner is None and photo.like is None:
            assert dealt[photo.id] == before.get(photo.id) or (
                not before.get(photo.id) and deal([photo], params) == {photo.id: dealt[photo.id]}
            )


@settings(EXAMPLES, max_examples=300)
@given(photos(st.none()), SHARES, st.lists(st.integers(0, 24), max_size=8))
def test_images_that_go_move_none(album: list[Photo], params: SplitParams, gone: list[int]) -> None:
    """Though they led their group, or held it together."""
    before = deal(album, params)
    left = [photo for number, photo in enumerate(album) if number not in gone]
    assert deal(left, params, before) == {photo.id: before[photo.id] for photo in left}


def test_halves_of_a_group_stay_when_what_linked_them_is_gone() -> None:
    moved = 0
    for number in range(100):
        a, b = Photo(f"{number} a", owner="ann"), Photo(f"{number} b", like="p")
        before = deal([a, b, Photo(f"{number} x", owner="ann", like="p")], CHOSEN)
        assert len(set(before.values())) == 1
        assert deal([a, b], CHOSEN, before) == {key: before[key] for key in (a.id, b.id)}
        moved += deal([a, b], CHOSEN) != {key: before[key] for key in (a.id, b.id)}
    assert moved > 10, "chance alone would move some"


@EXAMPLES
@given(photos(st.sampled_from([None, "train"])), SHARES)
def test_the_same_images_stay_when_the_last_run_is_known(
    album: list[Photo], params: SplitParams
) -> None:
    before = deal(album, params)
    assert deal(album, params, before) == before


@EXAMPLES
@given(photos(SAID), SHARES)
def test_the_same_images_stay_whatever_the_source_prescribes(
    album: list[Photo], params: SplitParams
) -> None:
    before = deal(album, params)
    assert deal(album, params, before) == before


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_what_the_source_puts_in_val_or_test_stays_there_or_is_a_leak(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        dealt = deal(album, params)
    except PipelineError:
        return
    leaking = {leak.image.id for leak in leaks_of(album)}
    for photo in album:
        if photo.id in leaking:
            assert dealt[photo.id] is None
        elif photo.said in {"val", "test"}:
            assert dealt[photo.id] == photo.said
        elif params.train is None:
            assert dealt[photo.id] is not None


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_a_train_set_gives_nothing_to_splits_the_source_has(
    album: list[Photo], params: SplitParams
) -> None:
    try:
        dealt = deal(album, params)
    except PipelineError:
        return
    given = {photo.said for photo in album} - {None, "train"}
    assert not {dealt[photo.id] for photo in album if photo.said == "train"} & given


@EXAMPLES
@given(photos(SAID), SHARES | NUMBERS)
def test_what_the_source_prescribes_is_forgotten_on_request(
    album: list[Photo], params: SplitParams
) -> None:
    def told(album: Sequence[Photo]) -> object:
        try:
            return deal(album, params.model_copy(update={"prescribed": False}))
        except PipelineError as error:
            return str(error)

    assert told(album) == told([photo._replace(said=None) for photo in album])


def singles(count: int, said: str | None = None, start: int = 0) -> list[Photo]:
    return [
        Photo(f"{number:05d}", ("cat", "dog")[number % 2], said=said)
        for number in range(start, start + count)
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (set(), {"train": 0.5, "val": 0.2, "test": 0.3}),
        ({"test"}, {"train": 0.8, "val": 0.2}),
        ({"val"}, {"train": 0.7, "test": 0.3}),
        ({"val", "test"}, {"train": 1.0}),
    ],
    ids=["nothing", "test", "val", "both"],
)
def test_shares_hold_of_a_train_set(given: set[str], expected: dict[str, float]) -> None:
    album = singles(20_000, "train") + [Photo(name, said=name) for name in sorted(given)]
    dealt = deal(album, CHOSEN)
    assert shares([dealt[photo.id] for photo in album[:20_000]]) == pytest.approx(
        expected, abs=0.01
    )


@pytest.mark.parametrize("seed", range(5))
def test_shares_hold_for_each_class_of_images_that_nobody_assigned(seed: int) -> None:
    album = singles(20_000)
    dealt = deal(album, split_params(seed=seed))
    for label in ("cat", "dog"):
        found = shares([dealt[photo.id] for photo in album if photo.label == label])
        assert found == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.02)


@pytest.mark.parametrize(
    "params", [CHOSEN, split_params(folds=4, test=0.1)], ids=["shares", "folds"]
)
def test_shares_hold_for_large_groups_of_near_duplicates(params: SplitParams) -> None:
    """Of eight images without owners, so that each group has eight keys."""
    album = [photo._replace(like=str(number // 8)) for number, photo in enumerate(singles(40_000))]
    expected = {"test": 0.25, "val": 0.15, "train": 0.6}
    if not params.folds:
        expected = {"train": 0.5, "val": 0.2, "test": 0.3}
    found = shares(list(deal(album, params).values()))
    assert found == pytest.approx(expected, abs=0.025)


def test_groups_that_grow_image_by_image_do_not_drift_to_a_split() -> None:
    """Whose first image was dealt alone: the others go with it, whoever leads."""
    album = singles(4000)
    before = deal(album, CHOSEN)
    grown = [photo._replace(like=photo.id) for photo in album] + [
        Photo(f"{photo.id} {copy}", photo.label, like=photo.id)
        for photo in album
        for copy in range(3)
    ]
    now = deal(grown, CHOSEN, before)
    assert {key: now[key] for key in before} == before
    assert shares(list(now.values())) == pytest.approx(shares(list(before.values())))


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"val": 0.4}, ("train", "val")),
        ({"val": 0.1}, ("val", "train")),
        ({"test": 0.4}, ("train", "test")),
        ({"test": 0.1}, ("test", "train")),
    ],
    ids=["more val", "less val", "more test", "less test"],
)
@pytest.mark.parametrize("size", [1, 4])
def test_a_changed_share_takes_from_train_alone_and_gives_to_it_alone(
    size: int, changes: dict[str, float], way: tuple[str, str]
) -> None:
    album = [photo._replace(like=str(n // size)) for n, photo in enumerate(singles(1000))]
    before, after = deal(album, CHOSEN), deal(album, split_params(**changes))
    assert {(before[key], after[key]) for key in before if before[key] != after[key]} == {way}


@pytest.mark.parametrize(("first", "other"), [("test", "val"), ("val", "test")])
def test_the_first_image_that_the_source_puts_in_a_split_does_not_reshuffle_the_other(
    first: str, other: str
) -> None:
    """What was carved out of the train set for `first` goes back to it; nothing else moves."""

    @EXAMPLES
    @given(photos(st.sampled_from([None, "train"])), SHARES)
    def holds(album: list[Photo], params: SplitParams) -> None:
        before = deal(album, params)
        said = {photo.id: photo.said for photo in album}
        back = {
            key
            for group in hang_together(album)
            for key in group
            if before[key] == first and "train" in {said[one] for one in group}
        }
        for known in ({}, before):
            now = deal([*album, Photo("new", said=first)], params, known)
            assert now == before | dict.fromkeys(back, "train") | {"new": first}

    holds()
    album = singles(1000, "train")
    before, now = deal(album, CHOSEN), deal([*album, Photo("new", said=first)], CHOSEN)
    carved = {key for key, name in before.items() if name == other}
    assert carved == {key for key, name in now.items() if name == other}
    assert carved


def test_an_image_that_one_of_the_train_set_joins_stays_in_val_where_that_is_carved() -> None:
    """Val is open to both of them; test, which the source has, to the first one alone."""
    album = singles(300) + singles(20, "test", 400)
    before = deal(album, CHOSEN)
    grown = [photo._replace(like=photo.id) for photo in album]
    free = [photo for photo in grown if not photo.said]
    grown += [Photo(f"{one.id} b", one.label, like=one.id, said="train") for one in free]
    now = deal(grown, CHOSEN, before)
    for name in ("val", "train"):
        stay = {one.id for one in free if before[one.id] == name}
        assert stay
        assert {now[key] for key in stay} == {now[f"{key} b"] for key in stay} == {name}
    anew = deal(grown, CHOSEN)
    assert {anew[one.id] for one in free if before[one.id] == "val"} == {"val", "train"}
    assert {now[one.id] for one in free if before[one.id] == "test"} == {"val", "train"}


def test_another_seed_deals_anew() -> None:
    album = singles(1000)
    before = deal(album, CHOSEN)
    assert deal(album, split_params(seed=2)) != before
    assert deal(album, split_params(seed=2), before) == before, "which is why the stage forgets it"


def test_the_tutorials_numbers_are_exact_per_class() -> None:
    album = singles(2600)
    dealt = deal(album, split_params(val=150, test=300, train=850))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in dealt.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 150), ("test", 300), ("train", 850))
    }


def test_numbers_carve_val_out_of_a_train_set_and_leave_out_what_is_too_many() -> None:
    album = singles(100, "train") + singles(40, "test", 100)
    dealt = deal(album, split_params(val=10, test=7, train=30))
    label = {photo.id: photo.label for photo in album}
    assert Counter((label[key], name) for key, name in dealt.items()) == {
        (label, name): count
        for label in ("cat", "dog")
        for name, count in (("val", 10), ("test", 20), ("train", 30), (None, 10))
    }


@EXAMPLES
@given(photos(st.none()), st.integers(2, 6), SEEDS, st.floats(0.05, 0.45))
def test_each_image_tests_in_exactly_one_fold(
    album: list[Photo], folds: int, seed: int, val: float
) -> None:
    dealt = [
        deal(album, split_params(seed=seed, folds=folds, fold=fold, val=val))
        for fold in range(folds)
    ]
    for photo in album:
        assert [one[photo.id] for one in dealt].count("test") == 1
    for group in hang_together(album):
        assert all(len({one[key] for key in group}) == 1 for one in dealt)


def test_folds_want_a_source_that_prescribes_nothing() -> None:
    album = singles(10, "train") + singles(10, "test", 10)
    with pytest.raises(PipelineError) as caught:
        deal(album, split_params(folds=3))
    assert str(caught.value) == (
        "the source prescribes test and train, and split.folds assigns anew: set "
        "split.prescribed=false for that, or split.folds=null"
    )
    assert set(deal(album, split_params(folds=3, prescribed=False)).values()) == set(SPLITS)


def leaks_of(album: Sequence[Photo]) -> list[leaks.Leak]:
    images, found = read(album)
    return leaks.find_leaks(found, images, [])


@EXAMPLES
@given(photos(st.none() | st.just("train")))
def test_what_the_source_puts_in_one_split_does_not_leak(album: list[Photo]) -> None:
    assert leaks_of(album) == []


@EXAMPLES
@given(photos(SAID), SHARES)
def test_exactly_what_leaks_is_left_out(album: list[Photo], params: SplitParams) -> None:
    left_out = [key for key, name in deal(album, params).items() if name is None]
    leaking = leaks_of(album)
    assert sorted(left_out) == sorted(leak.image.id for leak in leaking)
    assert not {leak.stays.id for leak in leaking} & set(left_out)


@EXAMPLES
@given(photos(SAID), SHARES)
def test_without_what_leaks_nothing_does(album: list[Photo], params: SplitParams) -> None:
    dealt = deal(album, params)
    assert leaks_of([photo for photo in album if dealt[photo.id]]) == []


def verdict(
    key: str, said: str, reason: str = "duplicate", name: str = "copy.png", near: str = ""
) -> VerdictRow:
    return VerdictRow(key, name, "cat", said, "reject" if reason else "keep", reason, "", near)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"class 'cat': a classifier needs at least two"):
        assignment.check_classes(["cat"] * 3, ["train", "val", "test"])


@pytest.mark.parametrize("lacking", SPLITS)
def test_a_class_that_lacks_a_split_is_named(lacking: str) -> None:
    labels = ["cat"] * 3 + ["dog"] * 4
    splits: list[str | None] = [*SPLITS]
    splits += [*(name for name in SPLITS if name != lacking), None]
    splits += ["val" if lacking == "train" else "train"]
    with pytest.raises(PipelineError) as caught:
        assignment.check_classes(labels, splits)
    assert str(caught.value) == (
        f"class 'dog' has no image in {lacking} (of 3 in all): add images, change split.val and "
        "split.test, try another split.seed, or, where the source prescribes splits, set "
        "split.prescribed=false"
    )


def test_a_class_in_every_split_passes() -> None:
    assignment.check_classes(["cat"] * 3 + ["dog"] * 3, list(SPLITS) * 2)


class Stage:
    """A working directory with a params.yaml, in which the stage runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.split_csv = folder / "data" / "split.csv"
        self.leaks_csv = folder / "data" / "leaks.csv"
        self.lock = folder / "dvc.lock"

    def run(
        self, album: Sequence[Photo], verdicts: Sequence[VerdictRow] = (), **changes: Any
    ) -> list[SplitRow]:
        """The rows of split.csv, with `changes` to the section of params.yaml.

        Where it does not fail its params are locked, as DVC does.
        """
        shipped = load_params(ROOT / "params.yaml")
        wanted = CHOSEN.model_dump() | changes
        overrides = {f"split.{key}": value for key, value in wanted.items()}
        values = with_overrides(shipped, overrides).model_dump()
        (self.folder / "params.yaml").write_text(json.dumps(values))
        images, _ = read(album)
        rows = [
            {
                "id": image.id,
                "label": image.label,
                "name": image.name,
                "split": image.split,
                "group": photo.owner,
                "width": 32,
                "height": 32,
                "phash": 0,
                "near_group": image.near,
                "bytes": b"",
            }
            for photo, image in zip(album, images, strict=True)
        ]
        shards.write(self.folder / "clean", shards.CLEAN, rows)
        kept = [
            verdict(image.id, image.split or "", "", image.name, image.near or "")
            for image in images
        ]
        write_verdicts(self.folder / "verdicts.csv", [*kept, *verdicts])
        split.main(
            self.folder / "clean", self.folder / "verdicts.csv", self.split_csv, self.leaks_csv
        )
        self.write_lock(values["split"])
        return self.table()

    def write_lock(self, values: dict[str, Any]) -> None:
        params = {"params.yaml": {"split": values}}
        stages = {"split": {"cmd": "x", "deps": locked_code(), "params": params}}
        self.lock.write_text(json.dumps({"schema": "2.0", "stages": stages}))

    def table(self) -> list[SplitRow]:
        return read_split(self.split_csv)

    def where(self) -> dict[str, str]:
        return {row.id: row.split for row in self.table()}

    def moves(self) -> list[dict[str, str]]:
        return atomic.read_csv(self.folder / ".cache" / "split" / "moves.csv")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return Stage(tmp_path)


def test_the_stage_writes_every_image_in_the_order_of_ids(stage: Stage) -> None:
    album = [
        photo._replace(owner=f"owner {number % 20}") for number, photo in enumerate(singles(100))
    ]
    table = stage.run(album[::-1])
    assert stage.split_csv.read_text().startswith("id,label,split,group\n")
    assert [(row.id, row.label, row.group) for row in table] == [
        (photo.id, photo.label, photo.owner) for photo in album
    ]
    assert len({(row.group, row.split) for row in table}) == 20


def test_the_stage_writes_that_nothing_leaks_and_nothing_moved(stage: Stage) -> None:
    stage.run(singles(100))
    assert stage.leaks_csv.read_text() == f"{LEAKS_HEADER}\n"
    moves = stage.folder / ".cache" / "split" / "moves.csv"
    assert moves.read_text() == "id,label,before,now\n"


def test_the_stage_deals_by_id_where_there_is_no_group(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    album = singles(60) + singles(10, "test", 60)
    table = stage.run(album)
    assert {row.id: row.split for row in table} == deal(album, CHOSEN)
    assert {row.split for row in table[60:]} == {"test"}
    assert {row.group for row in table} == {""}
    counts = Counter(row.split for row in table)
    assert capsys.readouterr().out == (
        f"split: {counts['train']} train, {counts['val']} val, {counts['test']} test\n"
    )


def test_a_group_without_owners_is_named_after_an_image_of_it(stage: Stage) -> None:
    album = [*singles(100), Photo("x", like="a"), Photo("y", like="a"), Photo("z", owner="ann")]
    rows = {row.id: row for row in stage.run(album)}
    assert rows["x"].group == rows["y"].group in {"x", "y"}
    assert rows["x"].split == rows["y"].split
    assert rows["z"].group == "ann"


def test_the_stage_run_again_gives_the_same_bytes(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    album = [photo._replace(like=str(n // 3)) for n, photo in enumerate(singles(60))]
    album += [
        Photo("train x", "cat", "ann", said="train"),
        Photo("test x", "cat", "ann", said="test"),
    ]
    stage.run(album)
    written = [path.read_bytes() for path in (stage.split_csv, stage.leaks_csv)]
    said = capsys.readouterr().out
    stage.run(album)
    assert [path.read_bytes() for path in (stage.split_csv, stage.leaks_csv)] == written
    assert capsys.readouterr().out == said
    assert stage.moves() == []


def test_a_split_that_cannot_be_used_is_not_written(stage: Stage) -> None:
    with pytest.raises(PipelineError, match="has no image in"):
        stage.run(singles(2))
    assert not stage.split_csv.exists()


@pytest.mark.parametrize(
    ("album", "changes", "said"),
    [
        ([Photo(str(number)) for number in range(60)], {}, "all images are of the class 'cat'"),
        (
            singles(60),
            {"val": 20, "test": 20},
            "split.test = 20, but only 10 images of class 'cat' are left for it: add images",
        ),
        (singles(60, "test"), {}, "class 'cat' has no image in train (of 30 in all)"),
        (
            singles(60, "train"),
            {"folds": 3},
            "the source prescribes train, and split.folds assigns",
        ),
    ],
    ids=["one class", "too few", "empty", "folds"],
)
def test_what_cannot_be_dealt_is_said_and_the_last_split_stays(
    stage: Stage, album: list[Photo], changes: dict[str, Any], said: str
) -> None:
    stage.run(singles(100))
    before = stage.split_csv.read_bytes()
    with pytest.raises(PipelineError) as caught:
        stage.run(album, **changes)
    assert str(caught.value).startswith(said)
    assert stage.split_csv.read_bytes() == before


LEAKS_HEADER = "id,name,label,split,kind,stays_id,stays_name,stays_split"
LEAKING = [
    *singles(60, "train"),
    *singles(20, "val", 100),
    *singles(20, "test", 200),
    Photo("near train", "cat", like="p", said="train"),
    Photo("near test", "cat", like="p", said="test"),
    Photo("ann val", "dog", "ann", said="val"),
    Photo("ann train", "dog", "ann", said="train"),
]
COPY = verdict("00200", "train")
LIKE = verdict("rejected", "val", "near_duplicate", "like.png", "near test")


def test_what_leaks_is_told_and_left_out(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    table = stage.run(LEAKING, [COPY, LIKE])
    assert {photo.id for photo in LEAKING} - {row.id for row in table} == {
        "near train",
        "ann train",
    }
    assert {row.id: row.split for row in table} == {
        photo.id: photo.said for photo in LEAKING if photo.id not in {"near train", "ann train"}
    }
    with stage.leaks_csv.open(newline="") as file:
        assert [tuple(line) for line in csv.reader(file)] == [
            tuple(LEAKS_HEADER.split(",")),
            ("00200", "copy.png", "cat", "train", "duplicate", "00200", "00200.png", "test"),
            (
                "rejected",
                "like.png",
                "cat",
                "val",
                "near_duplicate",
                "near test",
                "near test.png",
                "test",
            ),
            (
                "near train",
                "near train.png",
                "cat",
                "train",
                "near_duplicate",
                "near test",
                "near test.png",
                "test",
            ),
            (
                "ann train",
                "ann train.png",
                "dog",
                "train",
                "same_group",
                "ann val",
                "ann val.png",
                "val",
            ),
        ]
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == [
        "split: 4 images of the source are in a later split of the source too, and are "
        f"not used; see {stage.leaks_csv}:",
        "  copy.png (duplicate of 00200.png)",
        "  like.png (near_duplicate of near test.png)",
        "  near train.png (near_duplicate of near test.png)",
        "  ann train.png (same_group of ann val.png)",
    ]


def test_many_leaks_are_told_in_part_and_written_in_full(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run(LEAKING, [COPY] * 20)
    assert capsys.readouterr().out.count("duplicate of") == leaks.MAX_PRINTED
    assert len(read_leaks(stage.leaks_csv)) == 22


@pytest.mark.parametrize("copies", [[], [COPY]], ids=["likeness", "bytes"])
def test_leaks_may_stop_the_stage_which_writes_them_all_the_same(
    stage: Stage, copies: list[VerdictRow]
) -> None:
    album = [photo for photo in LEAKING if not copies or photo.id[0] in "0123456789"]
    with pytest.raises(PipelineError) as caught:
        stage.run(album, copies, leaks="fail")
    count = 1 if copies else 2
    assert str(caught.value) == (
        f"{count} images of the source are in a later split of the source too "
        f"({stage.leaks_csv}): correct the source, or leave them out with split.leaks=drop"
    )
    assert len(read_leaks(stage.leaks_csv)) == count
    assert not stage.split_csv.exists()


def test_nothing_leaks_where_the_source_is_not_heard(stage: Stage) -> None:
    table = stage.run(LEAKING, [COPY], leaks="fail", prescribed=False)
    assert read_leaks(stage.leaks_csv) == []
    assert len(table) == len(LEAKING)
    assert {row.id: row.split for row in table} == deal(LEAKING, split_params(prescribed=False))


def test_a_source_without_leaks_passes_the_strict_gate(stage: Stage) -> None:
    stage.run(singles(60, "train") + singles(20, "test", 100), leaks="fail")
    assert read_leaks(stage.leaks_csv) == []


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"val": 0.4}, {"folds": 3, "fold": 1}, {"val": 10, "test": 10}]
)
def test_moves_are_counted_and_listed(
    stage: Stage, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    album = [photo._replace(like=str(n // 2)) for n, photo in enumerate(singles(90))]
    stage.run(album)
    before = stage.where()
    capsys.readouterr()
    stage.run(album, **changes)
    now = stage.where()
    assert now == deal(album, split_params(**changes)), "what was before does not count"
    moved = [
        {"id": photo.id, "label": photo.label, "before": before[photo.id], "now": now[photo.id]}
        for photo in album
        if before[photo.id] != now[photo.id]
    ]
    assert moved
    assert stage.moves() == moved
    ways = Counter(f"{move['before']} to {move['now']}" for move in moved)
    told = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith(f"split: {len(moved)} images moved since the last run ({told}); see ")
    assert said.endswith("moves.csv")


def test_images_that_are_left_out_now_have_moved(stage: Stage) -> None:
    album = singles(100)
    before = {row.id: row.split for row in stage.run(album)}
    now = {row.id: row.split for row in stage.run(album, val=10, test=10, train=20)}
    left_out = [move["id"] for move in stage.moves() if move["now"] == "left out"]
    assert left_out == sorted(set(before) - set(now))
    assert len(left_out) == 20


def test_new_images_have_not_moved_and_gone_ones_are_forgotten(stage: Stage) -> None:
    stage.run(singles(100))
    stage.run(singles(100, start=20))
    assert stage.moves() == []


def test_a_group_stays_where_the_last_run_has_put_it(stage: Stage) -> None:
    """Though a new image leads it that would go elsewhere: the written split decides."""
    album = [photo._replace(like=photo.id) for photo in singles(200)]
    stage.run(album)
    before = stage.where()
    grown = album + [Photo(f"{photo.id} b", photo.label, like=photo.id) for photo in album]
    stage.run(grown)
    now = stage.where()
    assert {key: now[key] for key in before} == before
    assert stage.moves() == []
    anew = deal(grown, CHOSEN)
    assert {key: anew[key] for key in before} != before, "chance alone would move some"


def grown_twice(stage: Stage) -> tuple[list[Photo], dict[str, str]]:
    """Pairs of which one half was dealt alone in the last run, and where that has put it."""
    album = singles(200)
    stage.run(album)
    before = stage.where()
    grown = [photo._replace(like=photo.id) for photo in album]
    return grown + [Photo(f"{one.id} b", one.label, like=one.id) for one in album], before


def test_another_way_with_leaks_does_not_deal_anew(stage: Stage) -> None:
    grown, before = grown_twice(stage)
    stage.run(grown, leaks="fail")
    assert {key: stage.where()[key] for key in before} == before


@pytest.mark.parametrize(
    "last",
    [
        None,
        {},
        {"seed": 2},
        {"val": 0.25},
        {"test": 0.25},
        {"prescribed": False},
        {"folds": 3, "fold": 1},
        {"val": 20, "test": 30},
        {"train": 10},
        {"more": 1},
    ],
    ids=str,
)
def test_without_the_same_params_in_the_lock_all_is_dealt_from_scratch(
    stage: Stage, last: dict[str, Any] | None
) -> None:
    grown, before = grown_twice(stage)
    if last is None:
        stage.lock.unlink()
    else:
        stage.write_lock(CHOSEN.model_dump() | last if last else {})
    stage.run(grown)
    assert stage.where() == deal(grown, CHOSEN)
    moved = {key for key, name in before.items() if stage.where()[key] != name}
    assert {move["id"] for move in stage.moves()} == moved, "they are told all the same"
    assert moved


def test_shares_hold_when_many_pairs_are_dealt_with_another_seed(stage: Stage) -> None:
    """The last split does not count, or not a pair would be dealt with the other seed."""
    album = [photo._replace(like=str(number // 2)) for number, photo in enumerate(singles(40_000))]
    stage.run(album)
    before = stage.where()
    stage.run(album, seed=2)
    for label in ("cat", "dog"):
        found = shares([row.split for row in stage.table() if row.label == label])
        assert found == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.012)
    now = stage.where()
    assert now == deal(album, split_params(seed=2))
    for name, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        were = [now[key] for key in before if before[key] == name]
        assert were.count(name) / len(were) == pytest.approx(share, abs=0.03), "no memory"


def test_a_lock_that_is_no_yaml_is_told_and_the_last_split_stays(stage: Stage) -> None:
    stage.run(singles(100))
    before = stage.split_csv.read_bytes()
    stage.lock.write_text("<<<<<<< HEAD\nstages: [\n")
    with pytest.raises(PipelineError, match=r"^dvc\.lock is not YAML: "):
        stage.run(singles(200))
    assert stage.split_csv.read_bytes() == before


def test_a_new_image_that_joins_two_groups_moves_the_smaller_one(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    album = singles(100)
    stage.run(album)
    before = stage.where()
    test = [photo for photo in album if before[photo.id] == "test"][:2]
    (train,) = [photo for photo in album if before[photo.id] == "train"][:1]
    joined = [
        photo._replace(
            like="p" if photo in test else photo.like,
            owner="ann" if photo in (test[0], train) else None,
        )
        for photo in album
    ]
    capsys.readouterr()
    stage.run(joined)
    assert stage.where() == before | {train.id: "test"}
    assert [(move["id"], move["before"], move["now"]) for move in stage.moves()] == [
        (train.id, "train", "test")
    ]
    assert "1 images moved since the last run (1 train to test)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\n",
        b"\xff\xfe\x00garbage",
        b"\x00" * 100,
        b"a,b\n1,2\n",
        b"id\n00001\n",
        b"split\ntrain\n",
        b'"' + b"x" * 200_000,
        b"id,label,split,group\n00001",
        b"id,label,split,group\n00001,dog,,\n00002,cat,somewhere,\n",
        b"id,split\n00001,left out\n",
        b"id,label,split,group\n00001,dog\n,,,,,,,\n",
    ],
    ids=range(12),
)
def test_a_damaged_split_of_the_last_run_is_ignored(
    stage: Stage, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    album = [photo._replace(like=str(n // 3)) for n, photo in enumerate(singles(60))]
    stage.run(album)
    whole, said = stage.split_csv.read_bytes(), capsys.readouterr().out
    stage.split_csv.write_bytes(damaged)
    stage.run(album)
    assert stage.split_csv.read_bytes() == whole
    assert capsys.readouterr().out == said
    assert stage.moves() == []


def test_a_torn_split_of_the_last_run_counts_as_far_as_it_goes(stage: Stage) -> None:
    album = singles(60)
    stage.run(album)
    whole = stage.split_csv.read_bytes()
    stage.split_csv.write_bytes(whole[: len(whole) // 2])
    stage.run(album)
    assert stage.split_csv.read_bytes() == whole
    assert stage.moves() == []


def test_the_leader_names_a_group_of_several_owners(stage: Stage) -> None:
    album = [*singles(100), Photo("x", "cat", "ann", "p"), Photo("y", "cat", "bob", "p")]
    rows = {row.id: row for row in stage.run(album)}
    (group,) = [one for one in read(album)[1] if one.keys == ["ann", "bob"]]
    assert rows["x"].group == rows["y"].group == assignment.choose_leader(group.keys, CHOSEN.seed)
