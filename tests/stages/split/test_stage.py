"""The stage split: its files, its output, and its memory of the last run."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.split_csv import SplitRow, read_leaks, read_split
from pipeline.core.verdicts_csv import VerdictRow, write_verdicts
from pipeline.params import load_params, with_overrides
from pipeline.stages.split import __main__ as split
from pipeline.stages.split import leaks
from tests import ROOT
from tests.builders.albums import (
    SPLIT_PARAMS,
    Photo,
    album_images,
    assign_album,
    count_shares,
    images_and_groups,
    leader_of,
    singles,
)
from tests.builders.clean_rows import clean_row
from tests.builders.params import locked_code, split_params


def verdict(
    key: str, split: str, reason: str = "duplicate", name: str = "copy.png", near: str = ""
) -> VerdictRow:
    return VerdictRow(key, name, "cat", split, "reject" if reason else "keep", reason, "", near)


class Stage:
    """A working directory with a params.yaml, in which the stage runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.split_csv = folder / "data" / "split.csv"
        self.leaks_csv = folder / "data" / "leaks.csv"
        self.lock = folder / "dvc.lock"
        self.dataset = "sample"  # in dvc.lock; params.yaml always has this one

    def run(
        self, album: Sequence[Photo], verdicts: Sequence[VerdictRow] = (), **changes: Any
    ) -> list[SplitRow]:
        """Run the stage with `changes` to split in params.yaml; return the rows of split.csv.

        After a success the params are in dvc.lock, as DVC writes them.
        """
        shipped = load_params(ROOT / "params.yaml")
        split_values = SPLIT_PARAMS.model_dump() | changes
        overrides = {f"split.{key}": value for key, value in split_values.items()}
        values = with_overrides(shipped, overrides).model_dump()
        (self.folder / "params.yaml").write_text(json.dumps(values))
        images = album_images(album)
        rows = [
            clean_row(
                image.id,
                label=image.label,
                name=image.name,
                split=image.split,
                group=photo.owner,
                near_group=image.near,
            )
            for photo, image in zip(album, images, strict=True)
        ]
        shards.write(self.folder / "clean", shards.CLEAN, rows)
        accepted = [
            verdict(image.id, image.split or "", "", image.name, image.near or "")
            for image in images
        ]
        write_verdicts(self.folder / "verdicts.csv", [*accepted, *verdicts])
        split.main(
            self.folder / "clean", self.folder / "verdicts.csv", self.split_csv, self.leaks_csv
        )
        self.write_lock(values["split"])
        return self.table()

    def write_lock(self, values: dict[str, Any]) -> None:
        params = {"params.yaml": {"dataset": {"name": self.dataset}, "split": values}}
        stages = {"split": {"cmd": "x", "deps": locked_code(), "params": params}}
        self.lock.write_text(json.dumps({"schema": "2.0", "stages": stages}))

    def table(self) -> list[SplitRow]:
        return list(read_split(self.split_csv))

    def where(self) -> dict[str, str]:
        return {row.id: row.split for row in self.table()}

    def moves(self) -> list[dict[str, str]]:
        return atomic.read_csv(self.folder / ".cache" / "split" / "moves.csv")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return Stage(tmp_path)


def test_the_split_of_another_data_set_with_the_same_images_does_not_count(stage: Stage) -> None:
    album = [
        photo._replace(prescribed="train" if number % 3 else "val")
        for number, photo in enumerate(singles(100))
    ]
    stage.dataset = "images"
    stage.run(album)
    tested = [
        photo._replace(prescribed="test" if photo.prescribed == "val" else "train")
        for photo in album
    ]
    rows = stage.run(tested)
    stage.split_csv.unlink()
    assert rows == stage.run(tested)
    assert {row.split for row in rows} == {"train", "val", "test"}


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


def test_without_leaks_and_moves_their_tables_are_empty(stage: Stage) -> None:
    stage.run(singles(100))
    assert stage.leaks_csv.read_text() == f"{LEAKS_HEADER}\n"
    moves = stage.folder / ".cache" / "split" / "moves.csv"
    assert moves.read_text() == "id,label,before,now\n"


def test_the_stage_assigns_by_id_without_groups(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    album = singles(60) + singles(10, "test", 60)
    table = stage.run(album)
    assert {row.id: row.split for row in table} == assign_album(album, SPLIT_PARAMS)
    assert {row.split for row in table[60:]} == {"test"}
    assert {row.group for row in table} == {""}
    counts = Counter(row.split for row in table)
    assert capsys.readouterr().out == (
        f"split: {counts['train']} train, {counts['val']} val, {counts['test']} test; the source "
        "prescribes test, so split.test is ignored\n"
    )


def test_a_group_without_owners_is_named_after_one_of_its_images(stage: Stage) -> None:
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
        Photo("train x", "cat", "ann", prescribed="train"),
        Photo("test x", "cat", "ann", prescribed="test"),
    ]
    stage.run(album)
    written = [path.read_bytes() for path in (stage.split_csv, stage.leaks_csv)]
    printed = capsys.readouterr().out
    stage.run(album)
    assert [path.read_bytes() for path in (stage.split_csv, stage.leaks_csv)] == written
    assert capsys.readouterr().out == printed
    assert stage.moves() == []


def test_an_unusable_split_is_not_written(stage: Stage) -> None:
    with pytest.raises(PipelineError, match="has no image in"):
        stage.run(singles(2))
    assert not stage.split_csv.exists()


@pytest.mark.parametrize(
    ("album", "changes", "message"),
    [
        ([Photo(str(number)) for number in range(60)], {}, "all images are of the class 'cat'"),
        (
            singles(60),
            {"val": 20, "test": 20},
            "split.test = 20, but class 'cat' has only 10 images left for it: add images",
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
def test_images_that_cannot_be_assigned_are_an_error_and_the_last_split_stays(
    stage: Stage, album: list[Photo], changes: dict[str, Any], message: str
) -> None:
    stage.run(singles(100))
    before = stage.split_csv.read_bytes()
    with pytest.raises(PipelineError) as caught:
        stage.run(album, **changes)
    assert str(caught.value).startswith(message)
    assert stage.split_csv.read_bytes() == before


LEAKS_HEADER = "id,name,label,split,kind,stays_id,stays_name,stays_split"

LEAKING = [
    *singles(60, "train"),
    *singles(20, "val", 100),
    *singles(20, "test", 200),
    Photo("near train", "cat", like="p", prescribed="train"),
    Photo("near test", "cat", like="p", prescribed="test"),
    Photo("ann val", "dog", "ann", prescribed="val"),
    Photo("ann train", "dog", "ann", prescribed="train"),
]

COPY = verdict("00200", "train")

LIKE = verdict("rejected", "val", "near_duplicate", "like.png", "near test")


def test_leaking_images_are_printed_and_left_out(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    table = stage.run(LEAKING, [COPY, LIKE])
    assert {photo.id for photo in LEAKING} - {row.id for row in table} == {
        "near train",
        "ann train",
    }
    assert {row.id: row.split for row in table} == {
        photo.id: photo.prescribed
        for photo in LEAKING
        if photo.id not in {"near train", "ann train"}
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
    printed = capsys.readouterr().out.splitlines()
    assert printed[:5] == [
        "split: 4 images of the source are in a later split of the source too, and "
        f"not used; see {stage.leaks_csv}:",
        "  copy.png (duplicate of 00200.png)",
        "  like.png (near_duplicate of near test.png)",
        "  near train.png (near_duplicate of near test.png)",
        "  ann train.png (same_group of ann val.png)",
    ]


def test_leaks_keep_leaves_images_where_the_source_has_them(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """But not those that the filter has rejected: they are listed."""
    dropped = {row.id: row.split for row in stage.run(LEAKING, [COPY, LIKE])}
    capsys.readouterr()
    rows = {row.id: row for row in stage.run(LEAKING, [COPY, LIKE], leaks="keep")}
    leaked = {key: row.split for key, row in rows.items() if key not in dropped}
    assert leaked == {"near train": "train", "ann train": "train"}
    assert {key: row.split for key, row in rows.items() if key in dropped} == dropped
    assert rows["near train"].group == rows["near test"].group != ""
    assert [leak.name for leak in read_leaks(stage.leaks_csv)] == ["copy.png", "like.png"]
    assert (
        "split: 2 images have others of the same group in a later split of the source, and stay "
        "(split.leaks=keep): the report has the accuracy with and without such test images"
    ) in capsys.readouterr().out.splitlines()


def test_leaks_keep_keeps_nothing_that_the_source_does_not_prescribe(stage: Stage) -> None:
    assert stage.run(LEAKING, leaks="keep", prescribed=False) == stage.run(
        LEAKING, leaks="drop", prescribed=False
    )


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "; the source prescribes val and test, so split.val and split.test are ignored"),
        ({"prescribed": False}, ""),
    ],
)
def test_params_that_the_source_decides_are_named(
    stage: Stage, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], note: str
) -> None:
    stage.run(LEAKING, [COPY], **changes)
    assert capsys.readouterr().out.splitlines()[-1].partition(" test")[2] == note


def test_only_the_first_leaks_are_printed_and_all_are_written(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.run(LEAKING, [COPY] * 20)
    assert capsys.readouterr().out.count("duplicate of") == leaks.MAX_PRINTED
    assert len(read_leaks(stage.leaks_csv)) == 22


@pytest.mark.parametrize("copies", [[], [COPY]], ids=["likeness", "bytes"])
def test_leaks_fail_stops_the_stage_and_writes_the_leaks(
    stage: Stage, copies: list[VerdictRow]
) -> None:
    album = [photo for photo in LEAKING if not copies or photo.id[0] in "0123456789"]
    with pytest.raises(PipelineError) as caught:
        stage.run(album, copies, leaks="fail")
    count = 1 if copies else 2
    assert str(caught.value) == (
        f"{plural(count, 'image of the source is', 'images of the source are')} in a later split "
        f"of the source too ({stage.leaks_csv}): correct the source, or leave out such images "
        "with split.leaks=drop"
    )
    assert len(read_leaks(stage.leaks_csv)) == count
    assert not stage.split_csv.exists()


def test_nothing_leaks_when_prescribed_splits_are_ignored(stage: Stage) -> None:
    table = stage.run(LEAKING, [COPY], leaks="fail", prescribed=False)
    assert not len(read_leaks(stage.leaks_csv))
    assert len(table) == len(LEAKING)
    assert {row.id: row.split for row in table} == assign_album(
        LEAKING, split_params(prescribed=False)
    )


def test_a_source_without_leaks_passes_leaks_fail(stage: Stage) -> None:
    stage.run(singles(60, "train") + singles(20, "test", 100), leaks="fail")
    assert not len(read_leaks(stage.leaks_csv))


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
    assert now == assign_album(album, split_params(**changes)), "the last split is ignored"
    moved = [
        {"id": photo.id, "label": photo.label, "before": before[photo.id], "now": now[photo.id]}
        for photo in album
        if before[photo.id] != now[photo.id]
    ]
    assert moved
    assert stage.moves() == moved
    directions = Counter(f"{move['before']} to {move['now']}" for move in moved)
    by_direction = ", ".join(f"{count} {way}" for way, count in sorted(directions.items()))
    first_line = capsys.readouterr().out.splitlines()[0]
    assert first_line.startswith(
        f"split: {len(moved)} images moved since the last run ({by_direction}); see "
    )
    assert first_line.endswith("moves.csv")


def test_images_that_are_left_out_count_as_moved(stage: Stage) -> None:
    album = singles(100)
    before = {row.id: row.split for row in stage.run(album)}
    now = {row.id: row.split for row in stage.run(album, val=10, test=10, train=20)}
    left_out = [move["id"] for move in stage.moves() if move["now"] == "left out"]
    assert left_out == sorted(set(before) - set(now))
    assert len(left_out) == 20


def test_new_and_removed_images_do_not_count_as_moved(stage: Stage) -> None:
    stage.run(singles(100))
    stage.run(singles(100, start=20))
    assert stage.moves() == []


def test_a_group_stays_in_the_split_of_the_last_run(stage: Stage) -> None:
    """Even if a new leader would go elsewhere: the written split decides."""
    album = [photo._replace(like=photo.id) for photo in singles(200)]
    stage.run(album)
    before = stage.where()
    grown = album + [Photo(f"{photo.id} b", photo.label, like=photo.id) for photo in album]
    stage.run(grown)
    now = stage.where()
    assert {key: now[key] for key in before} == before
    assert stage.moves() == []
    anew = assign_album(grown, SPLIT_PARAMS)
    assert {key: anew[key] for key in before} != before, "chance alone would move some"


def paired_album(stage: Stage) -> tuple[list[Photo], dict[str, str]]:
    """Pairs, half of each was assigned alone in the last run; and the splits of these halves."""
    album = singles(200)
    stage.run(album)
    before = stage.where()
    grown = [photo._replace(like=photo.id) for photo in album]
    return grown + [Photo(f"{photo.id} b", photo.label, like=photo.id) for photo in album], before


def test_a_change_of_split_leaks_moves_no_images(stage: Stage) -> None:
    grown, before = paired_album(stage)
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
def test_all_images_are_assigned_anew_when_the_lock_has_other_params(
    stage: Stage, last: dict[str, Any] | None
) -> None:
    grown, before = paired_album(stage)
    if last is None:
        stage.lock.unlink()
    else:
        stage.write_lock(SPLIT_PARAMS.model_dump() | last if last else {})
    stage.run(grown)
    assert stage.where() == assign_album(grown, SPLIT_PARAMS)
    moved = {key for key, name in before.items() if stage.where()[key] != name}
    assert {move["id"] for move in stage.moves()} == moved, "moves are written all the same"
    assert moved


def test_shares_hold_for_many_pairs_with_another_seed(stage: Stage) -> None:
    """The last split is ignored; otherwise no pair would move with the other seed."""
    album = [photo._replace(like=str(number // 2)) for number, photo in enumerate(singles(20_000))]
    stage.run(album)
    before = stage.where()
    stage.run(album, seed=2)
    for label in ("cat", "dog"):
        shares = count_shares([row.split for row in stage.table() if row.label == label])
        assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.012)
    now = stage.where()
    assert now == assign_album(album, split_params(seed=2))
    for name, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        moved_from = [now[key] for key in before if before[key] == name]
        assert moved_from.count(name) / len(moved_from) == pytest.approx(share, abs=0.03), (
            "independent of the last split"
        )


def test_a_lock_that_is_not_yaml_is_an_error_and_the_last_split_stays(stage: Stage) -> None:
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
    assert "1 image moved since the last run (1 train to test)" in capsys.readouterr().out


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
    whole, printed = stage.split_csv.read_bytes(), capsys.readouterr().out
    stage.split_csv.write_bytes(damaged)
    stage.run(album)
    assert stage.split_csv.read_bytes() == whole
    assert capsys.readouterr().out == printed
    assert stage.moves() == []


def test_the_whole_rows_of_a_torn_split_of_the_last_run_count(stage: Stage) -> None:
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
    (group,) = [group for group in images_and_groups(album)[1] if group.keys == ["ann", "bob"]]
    assert rows["x"].group == rows["y"].group == leader_of(group.keys, SPLIT_PARAMS.seed)
