import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import atomic, images, params, shards
from pipeline import filter as filtering
from pipeline.acquire.raw import RawImage
from pipeline.errors import PipelineError
from pipeline.header import Reason, Warn, read_header
from pipeline.params import Filter

LIMITS = Filter(
    min_side=32,
    max_megapixels=1,
    store_side=64,
    near_duplicate_bits=4,
    near_duplicates="keep",
    max_reject_fraction=0.5,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml."""
    shipped = params.load(Path(__file__).parent.parent / "params.yaml")
    overrides = {f"filter.{key}": value for key, value in LIMITS.model_dump().items()}
    chosen = params.with_overrides(shipped, overrides)
    (tmp_path / "params.yaml").write_text(json.dumps(chosen.model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def png(seed: int, height: int = 40, width: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def image(name: str, data: bytes, split: str | None = None) -> RawImage:
    return RawImage(name, name.split("/")[0], data, split, "CC0-1.0")


def write(folder: Path, pictures: Sequence[RawImage]) -> Path:
    shards.write(folder / "raw", shards.RAW, [picture.row() for picture in pictures])
    return folder / "raw"


def judged(folder: Path, pictures: Sequence[RawImage]) -> list[dict[str, Any]]:
    return list(filtering.verdicts(write(folder, pictures), LIMITS))


def reasons(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    return {row["name"]: row["reason"] for row in rows}


GOOD = [image(f"{'cat' if n % 2 else 'dog'}/{n}.png", png(n)) for n in range(4)]


def test_good_images_are_kept_with_all_their_facts(project: Path) -> None:
    large = image("cat/large.png", png(9, 100, 128), "val")
    (small_row, large_row) = judged(project, [GOOD[1], large])
    facts = ("id", "label", "name", "split", "licence", "reason", "warnings", "width", "height")
    assert [small_row[key] for key in facts] == [
        GOOD[1].row()["id"], "cat", "cat/1.png", None, "CC0-1.0", None, [], 48, 40,
    ]  # fmt: skip
    assert small_row["bytes"] == GOOD[1].data
    assert [large_row[key] for key in facts] == [
        large.row()["id"], "cat", "cat/large.png", "val", "CC0-1.0", None, [], 82, 64,
    ]  # fmt: skip
    assert images.decode(large_row["bytes"]).shape == (64, 82, 3)


def test_of_equal_images_under_one_label_the_first_stays(project: Path) -> None:
    rows = judged(project, [image(f"cat/{name}.png", png(1)) for name in "bac"])
    assert reasons(rows) == {
        "cat/b.png": None, "cat/a.png": Reason.DUPLICATE, "cat/c.png": Reason.DUPLICATE,
    }  # fmt: skip


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
def test_of_equal_images_the_one_in_test_stays_else_in_val(
    project: Path, splits: list[str | None], stays: int
) -> None:
    rows = judged(project, [image(f"cat/{n}.png", png(1), s) for n, s in enumerate(splits)])
    assert [n for n, row in enumerate(rows) if row["reason"] is None] == [stays]
    assert Counter(row["reason"] for row in rows)[Reason.DUPLICATE] == len(splits) - 1


def test_of_equal_images_under_two_labels_none_stays(project: Path) -> None:
    names = ["cat/1.png", "dog/1.png", "cat/2.png"]
    rows = judged(project, [*(image(name, png(50)) for name in names), *GOOD])
    assert [row["reason"] for row in rows[:3]] == [Reason.CONFLICTING_LABELS] * 3
    assert {row["reason"] for row in rows[3:]} == {None}


def test_duplicates_are_found_across_shards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROWS", 2)
    with joblib.parallel_config("threading"):  # processes would take a second to start
        rows = judged(project, [*GOOD, image("cat/late.png", GOOD[1].data)])
    assert reasons(rows) == dict.fromkeys((picture.name for picture in GOOD), None) | {
        "cat/late.png": Reason.DUPLICATE
    }


def test_what_is_wrong_with_the_bytes_counts_before_their_copies(project: Path) -> None:
    rows = judged(project, [image("cat/1.png", b""), image("dog/1.png", b""), *GOOD])
    assert [row["reason"] for row in rows[:2]] == [Reason.EMPTY] * 2


@pytest.mark.parametrize(
    ("name", "expected"), [("cat/1.png", []), ("cat/1.jpg", [Warn.WRONG_EXTENSION])]
)
def test_a_wrong_extension_is_told_per_name(project: Path, name: str, expected: list[Warn]) -> None:
    (row,) = judged(project, [image(name, png(1))])
    assert row["reason"] is None
    assert row["warnings"] == expected


@pytest.mark.parametrize(
    ("bad", "total", "refused"), [(0, 10, False), (5, 10, False), (6, 10, True), (10, 10, True)]
)
def test_a_share_of_rejects_past_the_limit_is_refused(bad: int, total: int, refused: bool) -> None:
    reasons = Counter({"empty": bad - bad // 3, "blank": bad // 3})
    if not refused:
        filtering.check(reasons, total, LIMITS)
        return
    with pytest.raises(PipelineError) as caught:
        filtering.check(reasons, total, LIMITS)
    assert str(caught.value) == (
        f"{bad} of {total} images are rejected ({bad - bad // 3} empty, {bad // 3} blank), past "
        "filter.max_reject_fraction=0.5: mend the source, or raise it"
    )


def test_nothing_kept_is_refused_whatever_the_limit_without_blaming_it() -> None:
    limits = LIMITS.model_copy(update={"max_reject_fraction": 1.0})
    with pytest.raises(PipelineError, match=r"^3 of 3 images are rejected \(3 blank\)") as caught:
        filtering.check(Counter({"blank": 3}), 3, limits)
    assert "raise it" not in str(caught.value)


def run(project: Path) -> list[dict[str, str]]:
    filtering.main(project / "raw", project / "clean", project / "verdicts.csv")
    return atomic.read_csv(project / "verdicts.csv")


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
    told = [tuple(row[key] for key in ("name", "verdict", "reason", "warnings")) for row in table]
    assert told == [
        *((picture.name, "keep", "", "") for picture in GOOD),
        ("cat/rotated.png", "keep", "", "wrong_extension rotated"),
        ("cat/copy.png", "reject", "duplicate", ""),
        ("dog/empty.png", "reject", "empty", ""),
    ]
    assert [row["id"] for row in table] == [picture.row()["id"] for picture in mixed()]
    assert [row["label"] for row in table] == [picture.label for picture in mixed()]
    assert capsys.readouterr().out == (
        "filter: kept 5 of 7 images; rejected: 1 duplicate, 1 empty\n"
    )


def test_the_stage_stores_the_kept_images_in_raw_order(project: Path) -> None:
    write(project, mixed())
    run(project)
    table = shards.columns(project / "clean", shards.CLEAN.names)
    assert table.schema == shards.CLEAN
    assert table.column("name").to_pylist() == [picture.name for picture in mixed()[:5]]
    for row in table.to_pylist():
        assert read_header(row["bytes"]).plain
        assert images.decode(row["bytes"]).shape[:2] == (row["height"], row["width"])
    assert table.column("bytes").to_pylist()[:4] == [picture.data for picture in GOOD]


def test_the_same_images_give_the_same_bytes_twice(project: Path) -> None:
    def outputs() -> list[bytes]:
        run(project)
        paths = [*shards.paths(project / "clean"), project / "verdicts.csv"]
        return [path.read_bytes() for path in paths]

    write(project, mixed())
    assert outputs() == outputs()


def test_too_many_rejects_leave_the_old_images_and_say_which_they_were(project: Path) -> None:
    write(project, GOOD)
    run(project)
    write(project, [image(f"cat/{n}.png", b"") for n in range(3)])
    with pytest.raises(PipelineError, match="3 of 3 images are rejected"):
        run(project)
    found = atomic.read_csv(project / "verdicts.csv")
    assert [row["reason"] for row in found] == ["empty"] * 3
    assert len(shards.columns(project / "clean", ["id"])) == len(GOOD)


@pytest.fixture
def judged_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every id that is really judged from here on, in order."""
    seen: list[str] = []
    judge_batch = filtering.judge_batch

    def spy(batch: pa.RecordBatch, limits: Filter) -> pa.RecordBatch:
        seen.extend(batch.column("id").to_pylist())
        return judge_batch(batch, limits)

    monkeypatch.setattr(filtering, "judge_batch", spy)
    return seen


def test_a_second_run_computes_nothing(project: Path, judged_ids: list[str]) -> None:
    write(project, mixed())
    first = run(project)
    assert sorted(judged_ids) == sorted({row["id"] for row in first})
    judged_ids.clear()
    assert run(project) == first
    assert judged_ids == []


def test_a_new_image_is_computed_alone(project: Path, judged_ids: list[str]) -> None:
    write(project, GOOD)
    run(project)
    judged_ids.clear()
    new = image("cat/new.png", png(77))
    write(project, [new, *GOOD])
    run(project)
    assert judged_ids == [new.row()["id"]]


@pytest.mark.parametrize(
    ("changed", "again"), [({"max_reject_fraction": 0.9}, 0), ({"store_side": 63}, 4)]
)
def test_only_params_that_change_a_judgement_forget_it(
    project: Path, judged_ids: list[str], changed: dict[str, Any], again: int
) -> None:
    raw = write(project, GOOD)
    list(filtering.verdicts(raw, LIMITS))
    judged_ids.clear()
    list(filtering.verdicts(raw, LIMITS.model_copy(update=changed)))
    assert len(judged_ids) == again
