"""Clean shards and a split of drawn images, or of photographs, without the stages before."""

import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.core import shards
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.datasets.dataset_toml import SampleDataset
from pipeline.stages.acquire.sources.sample import draw_images

STORE_SIDE = 400  # pixels, as filter.store_side


def write_data(folder: Path, images: int) -> tuple[Path, Path]:
    """data/clean and data/split.csv of drawn cars and bicycles: a seventh each for val and test."""
    clean = write_clean(folder, images)
    ids = shards.columns(clean, ["id", "label"]).to_pylist()
    splits = ("train", "train", "val", "train", "train", "test", "train")
    rows = [
        SplitRow(row["id"], row["label"], splits[number % len(splits)], row["id"])
        for number, row in enumerate(ids)
    ]
    split_csv = folder / "split.csv"
    write_split(split_csv, sorted(rows, key=lambda row: row.id))
    return clean, split_csv


def write_clean(folder: Path, images: int, photos: Path | None = None) -> Path:
    """Clean shards of so many images."""
    clean = folder / "clean"
    source = _photographs(photos) if photos else _drawn(images)
    shards.write(clean, shards.CLEAN, islice(source, images))
    return clean


def _drawn(images: int) -> Iterator[dict[str, Any]]:
    dataset = SampleDataset(
        kind="sample",
        description="cars and bicycles",
        classes=("bicycle", "car"),
        licence="CC0 1.0",
        images_per_class=-(-images // 2),
        seed=1,
    )
    drawn = [*islice(draw_images(dataset), 2 * dataset.images_per_class)]
    for pair in zip(drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :], strict=True):
        for image in pair:
            yield _row(image.name, image.label, image.data)


def _photographs(photos: Path) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(photos) as archive:
        for name in archive.namelist():
            if name.endswith(".jpg"):
                data = archive.read(name)
                if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None:
                    yield _row(name, name.split("/")[-2], data)


def _row(name: str, label: str, data: bytes) -> dict[str, Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    scale = STORE_SIDE / min(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    height, width = pixels.shape[:2]
    key = shards.digest(name.encode() + data)
    facts = {"width": width, "height": height, "phash": 0, shards.STORED: shards.digest(data)}
    return {"id": key, "label": label, "name": name, "bytes": data} | facts
