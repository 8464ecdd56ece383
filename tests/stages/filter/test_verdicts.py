import hashlib
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import pillow_heif
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.shards import writer
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import decoding, sandbox
from pipeline.images.header import RejectReason, Warn, read_header
from pipeline.params import FilterParams, load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter import judge_all, judgement, verdicts
from tests import ROOT
from tests.builders.images import noise_png
from tests.builders.params import FILTER_PARAMS
from tests.builders.photographs import crop, draw_photograph, mirror
from tests.builders.verdicts import read_verdicts


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml."""
    shipped = load_params(ROOT / "params.yaml")
    overrides = {f"filter.{key}": value for key, value in FILTER_PARAMS.model_dump().items()}
    params = with_overrides(shipped, overrides | {"images.size": 32})
    (tmp_path / "params.yaml").write_text(json.dumps(params.model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / "dataset").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Run joblib in threads: processes take a second to start."""
    with joblib.parallel_config("threading"):
        yield


def image(name: str, data: bytes, split: str | None = None) -> RawImage:
    return RawImage(name, name.split("/")[0], data, split, "CC0-1.0")


def write(folder: Path, pictures: Sequence[RawImage]) -> Path:
    shards.write(folder / "raw", shards.RAW, [picture.row() for picture in pictures])
    return folder / "raw"


def rows_of(batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def judged(
    folder: Path, pictures: Sequence[RawImage], by_hand: Sequence[RawImage] = (), **changed: Any
) -> list[dict[str, Any]]:
    unwanted = {picture_id(picture): "ugly" for picture in by_hand}
    limits = FILTER_PARAMS.model_copy(update=changed)
    return rows_of(verdicts.judge_images(write(folder, pictures), unwanted, limits).batches())


def picture_id(picture: RawImage) -> str:
    return str(picture.row()["id"])


def reasons(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {row["name"]: row["reason"] for row in rows}


GOOD = [image(f"{'cat' if n % 2 else 'dog'}/{n}.png", noise_png(n)) for n in range(4)]


def test_good_images_are_accepted_with_all_their_facts(project: Path) -> None:
    large = image("cat/large.png", noise_png(9, 100, 128), "val")
    (small_row, large_row) = judged(project, [GOOD[1], large])
    facts = ("id", "label", "name", "split", "licence", "reason", "warnings", "width", "height")
    assert [small_row[key] for key in facts] == [
        GOOD[1].row()["id"],
        "cat",
        "cat/1.png",
        None,
        "CC0-1.0",
        None,
        [],
        48,
        40,
    ]
    assert small_row["bytes"] == GOOD[1].data
    assert [large_row[key] for key in facts] == [
        large.row()["id"],
        "cat",
        "cat/large.png",
        "val",
        "CC0-1.0",
        None,
        [],
        82,
        64,
    ]
    assert decoding.decode(large_row["bytes"]).shape == (64, 82, 3)


def test_the_first_of_equal_images_under_one_label_stays(project: Path) -> None:
    rows = judged(project, [image(f"cat/{name}.png", noise_png(1)) for name in "bac"])
    assert reasons(rows) == {
        "cat/b.png": None,
        "cat/a.png": RejectReason.DUPLICATE,
        "cat/c.png": RejectReason.DUPLICATE,
    }


@pytest.mark.parametrize(
    ("splits", "stays"),
    [
        (["train", "test"], 1),
        (["train", "val", "test"], 2),
        (["train", "val"], 1),
        ([None, "train"], 1),
        ([None, "val", "val"], 1),
        (["test", "test"], 0),
    ],
)
def test_of_equal_images_the_one_in_the_latest_split_stays(
    project: Path, splits: list[str | None], stays: int
) -> None:
    rows = judged(
        project, [image(f"cat/{n}.png", noise_png(1), split) for n, split in enumerate(splits)]
    )
    assert [n for n, row in enumerate(rows) if row["reason"] is None] == [stays]
    assert Counter(row["reason"] for row in rows)[RejectReason.DUPLICATE] == len(splits) - 1


def test_equal_images_under_two_labels_are_rejected(project: Path) -> None:
    names = ["cat/1.png", "dog/1.png", "cat/2.png"]
    rows = judged(project, [*(image(name, noise_png(50)) for name in names), *GOOD])
    assert [row["reason"] for row in rows[:3]] == [RejectReason.CONFLICTING_LABELS] * 3
    assert {row["reason"] for row in rows[3:]} == {None}


def test_duplicates_are_found_across_shards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROWS", 2)
    rows = judged(project, [*GOOD, image("cat/late.png", GOOD[1].data)])
    assert reasons(rows) == dict.fromkeys((picture.name for picture in GOOD), None) | {
        "cat/late.png": RejectReason.DUPLICATE
    }


def test_damage_is_reported_before_duplicates(project: Path) -> None:
    rows = judged(project, [image("cat/1.png", b""), image("dog/1.png", b""), *GOOD])
    assert [row["reason"] for row in rows[:2]] == [RejectReason.EMPTY] * 2


@pytest.mark.parametrize(
    ("name", "expected"), [("cat/1.png", []), ("cat/1.jpg", [Warn.WRONG_EXTENSION])]
)
def test_a_wrong_extension_is_a_warning_per_name(
    project: Path, name: str, expected: list[Warn]
) -> None:
    (row,) = judged(project, [image(name, noise_png(1))])
    assert row["reason"] is None
    assert row["warnings"] == expected


def facts_of(table: Sequence[tuple[str, str | None]]) -> pa.Table:
    labels, reasons = zip(*table, strict=True)
    return pa.table({"label": labels, "reason": pa.array(reasons, pa.string())})


@pytest.mark.parametrize(
    ("bad", "total", "refused"), [(0, 10, False), (5, 10, False), (6, 10, True), (10, 10, True)]
)
def test_a_share_of_rejects_past_the_limit_is_refused(bad: int, total: int, refused: bool) -> None:
    reasons = ["empty"] * (bad - bad // 3) + ["blank"] * (bad // 3) + [None] * (total - bad)
    table = [("cat", reason) for reason in reasons]
    if not refused:
        verdicts.check_rejects(facts_of(table), FILTER_PARAMS, Path("data/verdicts.csv"))
        return
    with pytest.raises(PipelineError) as caught:
        verdicts.check_rejects(facts_of(table), FILTER_PARAMS, Path("data/verdicts.csv"))
    assert str(caught.value) == (
        f"{bad} of {total} images are rejected ({bad - bad // 3} empty, {bad // 3} blank), past "
        "filter.max_reject_fraction=0.5: see data/verdicts.csv, and correct the source, or raise it"
    )


@pytest.mark.parametrize("others", [0, 10])
def test_a_class_without_accepted_images_is_refused_at_any_limit(
    others: int,
) -> None:
    limits = FILTER_PARAMS.model_copy(update={"max_reject_fraction": 1.0})
    table: list[tuple[str, str | None]] = (
        [("cat", "blank")] * 3 + [("cat", "empty")] + [("dog", None)] * others
    )
    with pytest.raises(PipelineError) as caught:
        verdicts.check_rejects(facts_of(table), limits, Path("verdicts.csv"))
    assert str(caught.value) == (
        "every image of class 'cat' is rejected (3 blank, 1 empty): see verdicts.csv, and "
        "correct or leave out the class"
    )
    verdicts.check_rejects(facts_of([*table, ("cat", None)]), limits, Path("verdicts.csv"))


def run(project: Path) -> list[VerdictRow]:
    names = ("dataset", "raw", "clean", "verdicts.csv")
    filtering.main(*(project / name for name in names))
    return list(read_verdicts(project / "verdicts.csv"))


def mixed() -> list[RawImage]:
    rotated = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    picture.save(rotated, "JPEG", exif=exif)
    return [
        *GOOD,
        image("cat/rotated.png", rotated.getvalue(), "test"),
        image("cat/copy.png", GOOD[1].data),
        image("dog/empty.png", b""),
    ]


def test_the_stage_writes_a_verdict_for_every_raw_image(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, mixed())
    table = run(project)
    columns = [(row.name, row.verdict, row.reason, row.warnings) for row in table]
    assert columns == [
        *((picture.name, "keep", "", "") for picture in GOOD),
        ("cat/rotated.png", "keep", "", "wrong_extension rotated"),
        ("cat/copy.png", "reject", "duplicate", ""),
        ("dog/empty.png", "reject", "empty", ""),
    ]
    assert [row.id for row in table] == [picture.row()["id"] for picture in mixed()]
    assert [row.label for row in table] == [picture.label for picture in mixed()]
    assert capsys.readouterr().out == (
        "filter: kept 5 of 7 images; rejected: 1 duplicate, 1 empty\n"
    )


def test_a_phone_folder_is_read_and_what_is_not_read_is_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB", (64, 48), pixels.tobytes()).save(file)
    folder = [
        image("cat/IMG_1.HEIC", file.getvalue()),
        image("cat/IMG_1.MOV", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "),
        image("cat/IMG_2.jxl", b"\0\0\0\x0cJXL \r\n\x87\n"),
        image("dog/IMG_3.jxl", b"\xff\x0a\xfa\x1f"),
    ]
    write(project, [*GOOD, *folder])
    verdict_of = {row.name: (row.verdict, row.reason, row.warnings) for row in run(project)}
    assert verdict_of["cat/IMG_1.HEIC"] == ("keep", "", "")
    assert verdict_of["cat/IMG_1.MOV"] == ("reject", "not_an_image", "")
    assert verdict_of["dog/IMG_3.jxl"] == ("reject", "unsupported", "")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("warning: filter: 2 JPEG XL files are not read: convert them")
    assert lines[1].startswith("warning: filter: 1 video file is not read: ")
    assert len(lines) == 2


def test_the_stage_stores_the_kept_images_in_raw_order(project: Path) -> None:
    write(project, mixed())
    run(project)
    table = shards.columns(project / "clean", shards.CLEAN.names)
    assert table.schema == shards.CLEAN
    assert table.column("name").to_pylist() == [picture.name for picture in mixed()[:5]]
    for row in table.to_pylist():
        assert read_header(row["bytes"]).plain
        assert decoding.decode(row["bytes"]).shape[:2] == (row["height"], row["width"])
    assert table.column("bytes").to_pylist()[:4] == [picture.data for picture in GOOD]


def test_a_deviation_of_the_raw_images_is_one_of_the_clean_ones(project: Path) -> None:
    write(project, mixed())
    run(project)
    assert shards.read_deviation(project / "clean") == ""
    rows = [picture.row() for picture in mixed()]
    shards.write(project / "raw", shards.with_deviation(shards.RAW, "x.zip has 5 bytes"), rows)
    run(project)
    assert shards.read_deviation(project / "clean") == "x.zip has 5 bytes"
    names = shards.columns(project / "clean", ["name"])["name"].to_pylist()
    assert names == [picture.name for picture in mixed()[:5]]


def test_the_same_images_give_the_same_bytes_twice(project: Path) -> None:
    def outputs() -> list[bytes]:
        run(project)
        paths = [*shards.paths(project / "clean"), project / "verdicts.csv"]
        return [path.read_bytes() for path in paths]

    write(project, mixed())
    assert outputs() == outputs()


def test_too_many_rejects_keep_the_old_images_and_write_the_verdicts(project: Path) -> None:
    write(project, GOOD)
    run(project)
    write(project, [image(f"cat/{n}.png", b"") for n in range(3)])
    with pytest.raises(PipelineError, match="3 of 3 images are rejected"):
        run(project)
    table = read_verdicts(project / "verdicts.csv")
    assert [row.reason for row in table] == ["empty"] * 3
    assert len(shards.columns(project / "clean", ["id"])) == len(GOOD)


@pytest.fixture
def judged_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that are judged and not read from the memo, in order."""
    ids: list[str] = []
    judge_batch = judge_all.judge_batch

    def spy(batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
        ids.extend(batch.column("id").to_pylist())
        return judge_batch(batch, params)

    monkeypatch.setattr(judge_all, "judge_batch", spy)
    return ids


def test_a_second_run_computes_nothing(project: Path, judged_ids: list[str]) -> None:
    write(project, mixed())
    first = run(project)
    assert sorted(judged_ids) == sorted({row.id for row in first})
    judged_ids.clear()
    assert run(project) == first
    assert judged_ids == []


def test_a_new_image_is_computed_alone(project: Path, judged_ids: list[str]) -> None:
    write(project, GOOD)
    run(project)
    judged_ids.clear()
    new = image("cat/new.png", noise_png(77))
    write(project, [new, *GOOD])
    run(project)
    assert judged_ids == [new.row()["id"]]


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"max_reject_fraction": 0.9}, 0),
        ({"near_duplicates": "keep_one"}, 0),
        ({"near_duplicate_bits": None}, 0),
        ({"near_duplicate_crops": False}, 4),
        ({"store_side": 63}, 4),
        ({"min_side": 31}, 4),
        ({"max_megapixels": 2.0}, 4),
    ],
)
def test_only_params_that_affect_judgements_recompute_them(
    project: Path, judged_ids: list[str], changed: dict[str, Any], again: int
) -> None:
    raw = write(project, GOOD)
    list(verdicts.judge_images(raw, {}, FILTER_PARAMS).batches())
    judged_ids.clear()
    list(verdicts.judge_images(raw, {}, FILTER_PARAMS.model_copy(update=changed)).batches())
    assert len(judged_ids) == again


# ---- near-duplicates ----


def scene(seed: int, scale: float = 1.0) -> bytes:
    """Soft random shapes, as in photographs; a near-duplicate of itself at every scale."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    size = (round(64 * scale), round(48 * scale))
    smooth = cv2.resize(
        cv2.resize(coarse, (256, 192), interpolation=cv2.INTER_CUBIC),
        size,
        interpolation=cv2.INTER_AREA,
    )
    return cv2.imencode(".png", smooth)[1].tobytes()


def alike(*splits: str | None, label: str = "cat", seed: int = 1) -> list[RawImage]:
    """Near-duplicates, one for each split."""
    return [
        image(f"{label}/{seed}_{n}.png", scene(seed, 1 + n / 8), split)
        for n, split in enumerate(splits)
    ]


def near_groups(rows: list[dict[str, Any]]) -> list[str | None]:
    return [row["near_group"] for row in rows]


def test_near_duplicates_stay_and_share_the_smallest_id_as_their_group(project: Path) -> None:
    first, second = alike(None, None, None), alike(None, None, seed=2)
    rows = judged(project, [*first, *second, *GOOD])
    assert {row["reason"] for row in rows} == {None}
    assert near_groups(rows) == (
        [min(map(picture_id, first))] * 3 + [min(map(picture_id, second))] * 2 + [None] * 4
    )


@pytest.mark.parametrize(
    ("splits", "among"),
    [
        ([None, None, None], {0, 1, 2}),
        (["train", "test"], {1}),
        (["train", "val", "test", "test"], {2, 3}),
        (["train", "val"], {1}),
        ([None, "train"], {1}),
        (["test", "test"], {0, 1}),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_keep_one_keeps_the_near_duplicate_in_the_latest_split(
    project: Path, splits: list[str | None], among: set[int], seed: int
) -> None:
    """Of several in one split the smallest id stays, in any order."""
    album = alike(*splits, seed=seed)
    stays = min((album[n] for n in among), key=picture_id)
    for ordered in (album, album[::-1]):
        rows = judged(project, [*ordered, *GOOD], near_duplicates="keep_one")
        assert reasons(rows) == {
            picture.name: None if picture is stays else RejectReason.NEAR_DUPLICATE
            for picture in album
        } | {picture.name: None for picture in GOOD}


def test_keep_one_keeps_one_near_duplicate_of_each_label(project: Path) -> None:
    cats, dogs = alike("train", "test"), alike("test", "train", label="dog")
    dogs = [image(dog.name, scene(1, 1.3 + n), dog.split) for n, dog in enumerate(dogs)]
    rows = judged(project, [*cats, *dogs], near_duplicates="keep_one")
    near = RejectReason.NEAR_DUPLICATE
    assert [row["reason"] for row in rows] == [near, None, None, near]
    assert set(near_groups(rows)) == {min(map(picture_id, [*cats, *dogs]))}


def test_altered_copies_share_the_group_of_their_original(project: Path) -> None:
    photographs = [draw_photograph(seed) for seed in range(3)]
    copies = [crop(8)(photographs[0]), mirror(photographs[1])]
    album = [
        image(f"cat/{number}.png", cv2.imencode(".png", pixels)[1].tobytes())
        for number, pixels in enumerate([*photographs, *copies])
    ]
    alone = near_groups(judged(project, album, near_duplicate_crops=False))
    assert alone == [None] * 5
    groups = near_groups(judged(project, album))
    first, second = (min(map(picture_id, album[number::3])) for number in range(2))
    assert groups == [first, second, None, first, second]


@pytest.mark.parametrize("near_duplicates", ["keep", "keep_one"])
def test_without_near_duplicate_bits_there_are_no_groups(
    project: Path, near_duplicates: str
) -> None:
    rows = judged(
        project, alike(None, None), near_duplicate_bits=None, near_duplicates=near_duplicates
    )
    assert [(row["reason"], row["near_group"]) for row in rows] == [(None, None)] * 2


def recoded(picture: RawImage) -> RawImage:
    """Encode the same pixels in other bytes; the hash is the same."""
    pixels = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    assert data != picture.data
    return image("cat/recoded.png", data)


def test_the_same_pixels_in_other_bytes_are_near_duplicates_at_zero_bits(project: Path) -> None:
    first = alike(None)[0]
    rows = judged(project, [first, recoded(first)], near_duplicate_bits=0)
    assert near_groups(rows) == [min(row["id"] for row in rows)] * 2


def test_rejected_images_are_in_no_group(project: Path) -> None:
    first, second, third = alike(None, None, None)
    copy = image("cat/copy.png", first.data)
    contested = image("dog/3.png", third.data)
    rows = judged(project, [first, copy, second, third, contested, image("cat/0.png", b"")])
    group = min(picture_id(first), picture_id(second))
    assert near_groups(rows) == [group, None, group, None, None, None]


def test_the_clean_shards_contain_the_near_duplicate_groups(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [*alike(None, None), *GOOD]
    write(project, pictures)
    group = min(map(picture_id, pictures[:2]))
    assert [row.near_group for row in run(project)] == [group, group, "", "", "", ""]
    clean = shards.columns(project / "clean", ["id", "near_group"]).to_pylist()
    assert clean == [
        {"id": picture_id(picture), "near_group": group if number < 2 else None}
        for number, picture in enumerate(pictures)
    ]


# ---- by hand ----


def test_an_image_in_the_reject_list_is_rejected(project: Path) -> None:
    rows = judged(project, GOOD, by_hand=[GOOD[2]])
    assert [row["reason"] for row in rows] == [None, None, RejectReason.BY_HAND, None]


def test_every_copy_of_an_image_in_the_reject_list_is_rejected(project: Path) -> None:
    copies = [image(f"{label}/copy.png", GOOD[0].data) for label in ("cat", "dog")]
    rows = judged(project, [*GOOD, *copies], by_hand=[GOOD[0]])
    by_hand = RejectReason.BY_HAND
    assert [row["reason"] for row in rows] == [by_hand, None, None, None, by_hand, by_hand]


def test_damage_is_reported_before_the_reject_list(project: Path) -> None:
    broken = [image("cat/cut.png", GOOD[0].data[:200]), image("cat/empty.png", b"")]
    rows = judged(project, [*broken, *GOOD], by_hand=broken)
    assert [row["reason"] for row in rows[:2]] == [RejectReason.DAMAGED, RejectReason.EMPTY]


def test_ids_that_do_not_occur_reject_nothing(project: Path) -> None:
    rows = judged(project, GOOD, by_hand=[image("cat/elsewhere.png", noise_png(99))])
    assert {row["reason"] for row in rows} == {None}


@pytest.mark.parametrize("near_duplicates", ["keep", "keep_one"])
def test_an_image_in_the_reject_list_is_no_near_duplicate(
    project: Path, near_duplicates: str
) -> None:
    pictures = alike("test", "train", None)
    rows = judged(project, pictures[:2], by_hand=pictures[:1], near_duplicates=near_duplicates)
    assert [(row["reason"], row["near_group"]) for row in rows] == [
        (RejectReason.BY_HAND, None),
        (None, None),
    ]
    rows = judged(project, pictures, by_hand=pictures[:1])
    group = min(map(picture_id, pictures[1:]))
    assert near_groups(rows) == [None, group, group]


def test_the_stage_reads_the_reject_list_of_the_data_set(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, GOOD)
    (project / "dataset/reject.csv").write_text(f"id,why\n{picture_id(GOOD[1])},blurred\n")
    assert [row.reason for row in run(project)] == ["", "by_hand", "", ""]
    assert capsys.readouterr().out == "filter: kept 3 of 4 images; rejected: 1 by_hand\n"
    clean = shards.columns(project / "clean", ["name"]).column("name").to_pylist()
    assert clean == [picture.name for picture in (GOOD[0], *GOOD[2:])]


def test_a_change_of_the_reject_list_recomputes_nothing(
    project: Path, judged_ids: list[str]
) -> None:
    write(project, GOOD)
    run(project)
    judged_ids.clear()
    (project / "dataset/reject.csv").write_text(f"id,why\n{picture_id(GOOD[1])},blurred\n")
    assert [row.verdict for row in run(project)] == ["keep", "reject", "keep", "keep"]
    assert judged_ids == []


def test_a_malformed_reject_list_stops_the_stage_before_any_judgement(
    project: Path, judged_ids: list[str]
) -> None:
    write(project, GOOD)
    (project / "dataset/reject.csv").write_text("id,why\ncat/1.png,blurred\n")
    with pytest.raises(PipelineError, match=r"line 2: 'cat/1\.png' is not an image id"):
        run(project)
    assert judged_ids == []


# ---- relabelled by hand ----


def relabel(project: Path, *lines: tuple[RawImage, str]) -> None:
    rows = [f"{picture_id(picture)},{label},\n" for picture, label in lines]
    (project / "dataset/relabel.csv").write_text("id,label,why\n" + "".join(rows))


def test_a_relabelled_image_has_its_new_label_everywhere_after_the_filter(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, GOOD)
    relabel(project, (GOOD[1], "dog"), (GOOD[2], "dog"))  # the latter is one already
    table = run(project)
    assert [(row.label, row.source_label) for row in table] == [
        ("dog", ""),
        ("dog", "cat"),
        ("dog", ""),
        ("cat", ""),
    ]
    clean = shards.columns(project / "clean", ["label"]).column("label").to_pylist()
    assert clean == ["dog", "dog", "dog", "cat"]
    raw = shards.columns(project / "raw", ["label"]).column("label").to_pylist()
    assert raw == ["dog", "cat", "dog", "cat"]
    assert capsys.readouterr().out == (
        "filter: kept 4 of 4 images; rejected: none; relabelled by hand: 1\n"
    )


def test_relabelling_settles_copies_with_conflicting_labels(project: Path) -> None:
    copies = [image(f"{label}/copy.png", noise_png(50)) for label in ("cat", "dog")]
    write(project, [*copies, *GOOD])
    relabel(project, (copies[0], "dog"))
    first, second, *_ = run(project)
    assert [(row.reason, row.label, row.source_label) for row in (first, second)] == [
        ("", "dog", "cat"),
        ("duplicate", "dog", ""),
    ]


def test_a_change_of_the_relabel_list_judges_nothing_again(
    project: Path, judged_ids: list[str]
) -> None:
    write(project, GOOD)
    run(project)
    judged_ids.clear()
    relabel(project, (GOOD[1], "dog"))
    assert [row.label for row in run(project)] == ["dog", "dog", "dog", "cat"]
    assert judged_ids == []


def test_an_unknown_label_stops_the_stage_before_any_judgement(
    project: Path, judged_ids: list[str]
) -> None:
    write(project, GOOD)
    relabel(project, (GOOD[0], "cat"), (GOOD[1], "dgo"))
    with pytest.raises(PipelineError, match=r"relabel\.csv, line 3: 'dgo' is not a class .* 'dog'"):
        run(project)
    assert judged_ids == []


@pytest.mark.parametrize("name", ["reject.csv", "relabel.csv"])
def test_listed_ids_without_an_image_are_a_warning(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    write(project, GOOD)
    columns = "id,why" if name == "reject.csv" else "id,label,why"
    (project / f"dataset/{name}").write_text(f"{columns}\n{'f' * 64},cat\n")
    assert {row.verdict for row in run(project)} == {"keep"}
    path = project / "dataset" / name
    assert capsys.readouterr().err == (
        f"warning: filter: {path} has 1 id of no image, such as {'f' * 64}\n"
    )


def test_a_class_that_loses_all_its_images_is_a_warning(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, GOOD)
    cats = [picture for picture in GOOD if picture.label == "cat"]
    relabel(project, *((picture, "dog") for picture in cats[1:]))
    run(project)
    assert capsys.readouterr().err == ""
    relabel(project, *((picture, "dog") for picture in cats))
    assert {row.label for row in run(project)} == {"dog"}
    assert capsys.readouterr().err == (
        f"warning: filter: {project / 'dataset/relabel.csv'} leaves no image in class 'cat', "
        "so the class is gone\n"
    )


def test_the_reject_list_has_precedence_over_the_relabel_list(project: Path) -> None:
    write(project, GOOD)
    relabel(project, (GOOD[1], "dog"))
    (project / "dataset/reject.csv").write_text(f"id,why\n{picture_id(GOOD[1])},blurred\n")
    row = run(project)[1]
    assert (row.reason, row.label, row.source_label) == ("by_hand", "dog", "cat")


# ---- images that break a decoder ----


def judge_greedily(batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
    """Runs in a worker, which imports this module by name."""
    if GOOD[1].data in batch.column("bytes").to_pylist():
        raise MemoryError
    return real_judge_batch(batch, params)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_an_image_that_needs_too_much_memory_is_rejected_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr(judge_all, "judge_batch", judge_greedily)
    with joblib.parallel_config(backend):
        rows = judged(project, GOOD)
    assert [row["reason"] for row in rows] == [None, RejectReason.BREAKS_DECODER, None, None]
    assert rows[1]["warnings"] == []


def test_judge_batch_raises_memory_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(data: bytes, params: FilterParams) -> judgement.Judgement:
        raise MemoryError

    monkeypatch.setattr(judgement, "judge", greedy)
    batch = pa.RecordBatch.from_pylist([GOOD[0].row()], schema=shards.RAW)
    with pytest.raises(MemoryError):
        judge_all.judge_batch(batch, FILTER_PARAMS)


needs_status = pytest.mark.skipif(
    not sandbox.PROCESS_STATUS.exists(), reason="only Linux says how much memory a process has"
)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The bytes that a worker may allocate."""
    monkeypatch.setattr(sandbox, "BASE_MEGABYTES", 70)
    monkeypatch.setattr(sandbox, "BYTES_PER_PIXEL", 0)
    with joblib.parallel_config("loky"):
        yield 70 * 10**6


@needs_status
def test_images_that_exceed_the_memory_only_together_are_all_accepted(
    project: Path, memory: int
) -> None:
    bombs = [image(f"cat/{seed}.png", tiled(seed)) for seed in range(35)]
    assert sum(len(bomb.data) for bomb in bombs) < memory / 20
    stored = [judgement.judge(bomb.data, LARGE).stored or b"" for bomb in bombs[:2]]
    assert len(bombs) * min(map(len, stored)) > 1.2 * memory
    others = [*GOOD, image("dog/empty.png", b""), image("dog/text.png", b"text")]
    pictures = [*others[:2], *bombs, *others[2:]]
    rows = rows_of(verdicts.judge_images(write(project, pictures), {}, LARGE).batches())
    assert reasons(rows) == {picture.name: None for picture in pictures} | {
        "dog/empty.png": RejectReason.EMPTY,
        "dog/text.png": RejectReason.NOT_AN_IMAGE,
    }


@needs_status
def test_images_that_exceed_the_memory_are_rejected_without_affecting_others(
    project: Path, memory: int
) -> None:
    bombs = [image(f"cat/bomb{n}.png", vast(5400, 5400 + n)) for n in range(2)]
    assert all(len(bomb.data) < 10**6 for bomb in bombs)
    raw = write(project, [*GOOD[:2], bombs[0], *GOOD[2:], bombs[1]])
    large = LARGE.model_copy(update={"max_megapixels": 100})
    rows = rows_of(verdicts.judge_images(raw, {}, large).batches())
    row_reasons = [row["reason"] for row in rows]
    assert row_reasons[:2] + row_reasons[3:5] == [None] * 4
    # OpenCV gives no reason when it returns no pixels.
    assert {row_reasons[2], row_reasons[5]} <= {RejectReason.BREAKS_DECODER, RejectReason.DAMAGED}


LARGE = FILTER_PARAMS.model_copy(update={"store_side": 1000, "near_duplicate_bits": None})


def tiled(seed: int) -> bytes:
    """A transparent PNG of tens of kilobytes; OpenCV would encode it in almost 3 megabytes."""
    tile = np.random.default_rng(seed).integers(0, 256, (8, 1000, 4), dtype=np.uint8)
    tile[:, :, 3] = 254
    file = io.BytesIO()
    Image.fromarray(np.tile(tile, (125, 1, 1))).save(file, "PNG", compress_level=9)
    return file.getvalue()


def vast(height: int, width: int) -> bytes:
    """A small PNG with 87 megabytes of pixels."""
    rows = (np.arange(height) // 64 % 256).astype(np.uint8)
    pixels = np.repeat(rows[:, None], width, axis=1)
    return cv2.imencode(".png", pixels)[1].tobytes()


def judge_or_die(batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
    """Runs in a worker, which imports this module by name."""
    contents = batch.column("bytes").to_pylist()
    if b"crash" in contents:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"loop" in contents:
        with sandbox.deadline(0.2):
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    if b"allocate" in contents:
        bytes(10**12)
    return real_judge_batch(batch, params)


real_judge_batch = judge_all.judge_batch


@needs_status
@pytest.mark.parametrize("fault", [b"crash", b"loop", b"allocate"])
def test_an_image_that_breaks_its_decoder_gets_a_verdict(
    project: Path, monkeypatch: pytest.MonkeyPatch, fault: bytes
) -> None:
    monkeypatch.setattr(judge_all, "judge_batch", judge_or_die)
    write(project, [*GOOD[:2], image("cat/bad.jpg", fault), *GOOD[2:]])
    with joblib.parallel_config("loky"):
        table = run(project)
    assert [row.reason for row in table] == ["", "", "breaks_decoder", "", ""]
    assert table[2].warnings == ""
    clean = shards.columns(project / "clean", ["name"]).column("name").to_pylist()
    assert clean == [picture.name for picture in GOOD]
