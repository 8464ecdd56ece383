from collections import Counter
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest

from pipeline.core import shards
from pipeline.datasets.dataset_toml import SampleDataset
from pipeline.images.header import RejectReason, Warn
from pipeline.params import FilterParams
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
    near_duplicate_crops=True,
    near_duplicates="keep_one",
    max_reject_fraction=1,
)

CANNOT_BE_PLANTED = {RejectReason.BREAKS_DECODER, RejectReason.BY_HAND}
# Newer than the sample: its images, and so the figures of the plain `dvc repro`, stay the same.
NOT_PLANTED = {
    Warn.COLOUR_CONVERTED,
    Warn.EXTRANEOUS_BYTES,
    Warn.LOW_16_BIT,
    Warn.SCALED_BY_BITS,
    Warn.WRONG_END,
}


@pytest.fixture(scope="module")
def images() -> list[RawImage]:
    return list(sample.draw_images(DESCRIBED))


def test_the_bytes_are_reproducible(images: list[RawImage]) -> None:
    assert list(sample.draw_images(DESCRIBED)) == images


def test_another_seed_gives_other_pictures(images: list[RawImage]) -> None:
    other = sample.draw_images(DESCRIBED.model_copy(update={"seed": 2}))
    pairs = list(zip(images[:5], other, strict=False))
    assert all(before.name == after.name for before, after in pairs)
    assert all(before.data != after.data for before, after in pairs)


def test_more_pictures_do_not_change_the_first_ones(images: list[RawImage]) -> None:
    more = DESCRIBED.model_copy(update={"images_per_class": 12})
    assert set(images) < set(sample.draw_images(more))


def test_each_class_has_images_per_class_pictures(
    images: list[RawImage],
) -> None:
    names = [image.name for image in images]
    for label in ("bicycle", "car"):
        assert sum(name.startswith(f"{label}/{label}_") for name in names) == 10
    assert len(set(names)) == len(names)


def test_every_picture_has_its_label_licence_and_no_split(images: list[RawImage]) -> None:
    for image in images:
        assert image.label == image.name.split("/")[0]
        assert (image.licence, image.split) == ("CC0-1.0", None)


def test_pictures_have_the_size_of_photographs_and_contrast(images: list[RawImage]) -> None:
    for image in images[:20]:
        pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        assert 160 <= pixels.shape[1] <= 480
        assert pixels.std() > 10


def test_every_reason_and_warning_of_the_filter_occurs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[RawImage]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shards.write(tmp_path / "raw", shards.RAW, (image.row() for image in images))
    with joblib.parallel_config("threading"):  # processes would take a second to start
        judged = verdicts.judge_images(tmp_path / "raw", {}, PARAMS)
        rows = [row for batch in judged.batches() for row in batch.to_pylist()]
    reasons = Counter(row["reason"] for row in rows)
    assert set(reasons) == {None, *RejectReason} - CANNOT_BE_PLANTED
    assert {warning for row in rows for warning in row["warnings"]} == set(Warn) - NOT_PLANTED
    clean = [row["reason"] for row in rows if row["name"].split("/")[1].startswith(row["label"])]
    assert clean == [None] * 20
    reason_of = {row["name"]: row["reason"] for row in rows}
    assert reason_of["car/icon.ico"] == RejectReason.UNSUPPORTED
    pair = {reason_of["car/whole.jpg"], reason_of["car/whole (small).jpg"]}
    assert pair == {None, RejectReason.NEAR_DUPLICATE}
