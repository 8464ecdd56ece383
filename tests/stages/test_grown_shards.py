"""What is computed from shards that grew over several runs equals what one run gives."""

from pathlib import Path
from random import Random
from typing import Any

import cv2
import joblib
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.core import shards
from pipeline.core.dvc_cache import LastOutput
from pipeline.core.shards import growth, source_order, writer
from pipeline.params import Params
from pipeline.stages.acquire.raw_image import SKIPPED_COLUMNS, RawImage
from pipeline.stages.describe import __main__ as describe
from pipeline.stages.features import __main__ as features
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.split import __main__ as split
from tests.builders import stages
from tests.builders.params import NARROW_RESNET, small_params
from tests.builders.stores import copy_store

RAW, CLEAN = Path("data/raw"), stages.CLEAN
WRITTEN = ("data/features", "models", "reports/history.csv", "reports/metrics.json", "reports/test")
ROWS = 3  # in a full shard of these tests
RUNS = 4


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROWS", ROWS)


def picture(number: int, random: Random) -> RawImage:
    """One of a few scenes, so that there are copies and near-duplicates."""
    coarse = np.random.default_rng(number % 60).integers(0, 256, (6, 6, 3), np.uint8)
    pixels = cv2.resize(coarse, (44 + number % 3, 44))
    data = cv2.imencode((".png", ".jpg")[number % 2], pixels)[1].tobytes()
    label = ("cat", "dog")[number % 2]
    split_name = random.choice([None, None, *shards.SPLITS])
    group = random.choice([None, None, "ann", "bob"])
    return RawImage(f"{label}/{number}", label, data, split_name, group=group)


def edited(images: list[RawImage], random: Random) -> list[RawImage]:
    """New images anywhere, some removed, one with another split, and perhaps another order."""
    images = [image for image in images if random.random() > 0.02]
    for _ in range(random.randint(0, 4)):
        new = picture(random.randrange(1000), random)
        images.insert(random.randint(0, len(images)), new)
    place = random.randrange(len(images))
    old = images[place]
    images[place] = RawImage(old.name, old.label, old.data, "train", group="carol")
    if random.random() < 0.3:
        random.shuffle(images)
    return images


class Workspace:
    """A folder in which the stages run, with their last shards."""

    def __init__(self, folder: Path, params: Params, store: Path) -> None:
        (folder / "dataset").mkdir(parents=True)
        copy_store(store, folder)
        YAML(typ="safe", pure=True).dump(params.model_dump(), folder / "params.yaml")
        self.folder = folder

    def run(self, images: list[RawImage]) -> None:
        with pytest.MonkeyPatch.context() as patch, joblib.parallel_config("threading"):
            patch.chdir(self.folder)
            patch.setenv("DVC_ROOT", str(self.folder))
            patch.setattr(filtering, "find_last_output", lambda _, folder: last_output(folder))
            rows = [image.row() for image in images]
            growth.write(RAW, shards.RAW, rows, last_output(RAW))
            filtering.main(Path("dataset"), RAW, CLEAN, Path("verdicts.csv"))

    def finish(self) -> dict[str, Any]:
        """Run the other stages; return what they and the filter wrote, shards aside."""
        with pytest.MonkeyPatch.context() as patch, joblib.parallel_config("threading"):
            patch.chdir(self.folder)
            patch.setenv("DVC_ROOT", str(self.folder))
            verdicts, splits, leaks = Path("verdicts.csv"), stages.SPLIT, Path("leaks.csv")
            split.main(CLEAN, verdicts, splits, leaks)
            dataset, page = Path("dataset"), Path("data.html")
            skipped = Path("skipped.csv")
            skipped.write_text(",".join(SKIPPED_COLUMNS))
            describe.main(dataset, RAW, CLEAN, verdicts, splits, leaks, skipped, page)
            features.main(CLEAN, splits, stages.FEATURES)
            stages.train_stage()
            stages.evaluate_stage()
            paths = [path for name in WRITTEN for path in (Path(name), *Path(name).rglob("*"))]
            written = [verdicts, splits, leaks, page, *filter(Path.is_file, sorted(paths))]
            contents: dict[str, Any] = {str(path): path.read_bytes() for path in written}
            for directory, schema in ((RAW, shards.RAW), (CLEAN, shards.CLEAN)):
                rows = shards.batches(directory, schema.names, 7)
                contents[str(directory)] = [row for batch in rows for row in batch.to_pylist()]
        return contents


def last_output(directory: Path) -> LastOutput:
    if not directory.exists():
        return LastOutput()
    return LastOutput({path.name: path.absolute() for path in directory.iterdir()}, linked=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_all_that_is_computed_from_grown_shards_is_as_from_a_first_run(
    tmp_path: Path, params: Params, empty_store: Path, seed: int
) -> None:
    narrow = {key.replace("__", "."): value for key, value in NARROW_RESNET.items()}
    limits = {"filter.max_reject_fraction": 0.9, "filter.near_duplicates": "keep_one"}
    small = small_params(params, **narrow, **limits, **{"split.val": 0.3, "split.test": 0.3})
    random = Random(seed)
    images = [picture(number, random) for number in range(60)]
    grown, fresh = (Workspace(tmp_path / name, small, empty_store) for name in ("grown", "fresh"))
    for _ in range(RUNS):
        grown.run(images)
        images = edited(images, random)
    grown.run(images)
    fresh.run(images)
    assert (grown.folder / RAW / source_order.NAME).exists()  # or this test proves nothing
    assert (grown.folder / CLEAN / source_order.NAME).exists()
    results = grown.finish()
    assert {"models/model.safetensors", "reports/metrics.json"} <= results.keys()
    assert results == fresh.finish()
