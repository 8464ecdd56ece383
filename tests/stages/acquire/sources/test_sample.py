from collections import Counter
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest

from pipeline.core import shards
from pipeline.images.header import RejectReason, Warn
from pipeline.params import FilterParams
from pipeline.stages.acquire.dataset_toml import SampleDataset
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources import sample
from pipeline.stages.filter import verdicts

DESCRIBED = SampleDataset(
    kind="sample", description="d", licence="CC0-1.0", images_per_class=10, seed=1
)
PARAMS = FilterParams(
    min_side=32,
    max_megapixels=50,
    store_side=320,
    near_duplicate_bits=4,
    near_duplicates="keep_one",
    max_reject_fraction=1,
)

CANNOT_BE_PLANTED = {RejectReason.BREAKS_DECODER, RejectReason.BY_HAND}


@pytest.fixture(scope="module")
def found() -> list[RawImage]:
    return list(sample.draw_images(DESCRIBED))


def test_the_same_description_gives_the_same_bytes(found: list[RawImage]) -> None:
    assert list(sample.draw_images(DESCRIBED)) == found


def test_another_seed_gives_other_pictures(found: list[RawImage]) -> None:
    other = sample.draw_images(DESCRIBED.model_copy(update={"seed": 2}))
    pairs = list(zip(found[:5], other, strict=False))
    assert all(one.name == two.name for one, two in pairs)
    assert all(one.data != two.data for one, two in pairs)


def test_more_pictures_leave_the_first_as_they_were(found: list[RawImage]) -> None:
    more = DESCRIBED.model_copy(update={"images_per_class": 12})
    assert set(found) < set(sample.draw_images(more))


def test_each_class_has_as_many_pictures_as_asked_beside_the_defects(
    found: list[RawImage],
) -> None:
    names = [image.name for image in found]
    for label in ("bicycle", "car"):
        assert sum(name.startswith(f"{label}/{label}_") for name in names) == 10
    assert len(set(names)) == len(names)


def test_every_picture_has_its_label_licence_and_no_split(found: list[RawImage]) -> None:
    for image in found:
        assert image.label == image.name.split("/")[0]
        assert (image.licence, image.split) == ("CC0-1.0", None)


def test_pictures_are_of_photographs_size_and_not_flat(found: list[RawImage]) -> None:
    for image in found[:20]:
        pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert 160 <= pixels.shape[1] <= 480
        assert pixels.std() > 10


def test_every_reason_and_every_warning_of_the_filter_occurs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[RawImage]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shards.write(tmp_path / "raw", shards.RAW, (image.row() for image in found))
    with joblib.parallel_config("threading"):  # processes would take a second to start
        judged = verdicts.verdicts(tmp_path / "raw", {}, PARAMS)
        rows = [row for batch in judged for row in batch.to_pylist()]
    reasons = Counter(row["reason"] for row in rows)
    assert set(reasons) == {None, *RejectReason} - CANNOT_BE_PLANTED
    assert {warning for row in rows for warning in row["warnings"]} == set(Warn)
    clean = [row["reason"] for row in rows if row["name"].split("/")[1].startswith(row["label"])]
    assert clean == [None] * 20
    reason_of = {row["name"]: row["reason"] for row in rows}
    assert reason_of["car/icon.ico"] == RejectReason.UNSUPPORTED
    pair = {reason_of["car/whole.jpg"], reason_of["car/whole (small).jpg"]}
    assert pair == {None, RejectReason.NEAR_DUPLICATE}
