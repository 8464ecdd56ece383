"""The certificate of a real split holds, and that of a split with copies of images is refused."""

import csv
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.commands.export.certificate import (
    CHECKER,
    TABLE,
    Certificate,
    CertificateInputs,
    certify,
)
from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.datasets import dataset_toml
from pipeline.images.pixels import Grey
from pipeline.params import Params
from pipeline.stages.acquire.sources.sample import draw_images
from tests import ROOT
from tests.builders.clean_rows import clean_row
from tests.builders.photographs import Alteration, caption, crop, draw_photograph, mirror

DATA = CertificateInputs(Path("raw"), Path("clean"), Path("split.csv"))
pytestmark = pytest.mark.usefixtures("world", "warm_workers")


def encode(grey: Grey) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(grey))[1].tobytes()


def write_data(*images: tuple[Grey | bytes, str, str | None]) -> list[str]:
    """Shards and splits of images: pixels or a file, split, owner; return their ids."""
    rows: list[dict[str, Any]] = []
    for image, split, group in images:
        data = image if isinstance(image, bytes) else encode(image)
        key = shards.digest(data)
        rows.append(
            {"id": key, "label": "a", "name": key, "bytes": data, "group": group, "s": split}
        )
    shards.write(DATA.raw, shards.RAW, [{k: v for k, v in row.items() if k != "s"} for row in rows])
    clean = [clean_row(row["id"], row["bytes"]) | {"group": row["group"]} for row in rows]
    shards.write(DATA.clean, shards.CLEAN, clean)
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    write_split(DATA.split_csv, [SplitRow(row["id"], "a", row["s"], "") for row in ordered])
    return [str(row["id"]) for row in rows]


def test_a_split_without_leaks_is_certified(params: Params) -> None:
    ids = write_data(
        (draw_photograph(1), "train", "Jo"),
        (mirror(draw_photograph(1)), "train", "Jo"),
        (draw_photograph(2), "test", "Ann"),
        (np.asarray(draw_photograph(3)[:48, :48]), "val", None),
    )
    assert certify(DATA, params.filter, Path("proof")) == Certificate(images=4, suspected=0)
    with Path("proof", TABLE).open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    first, copy, other, small = (rows[key] for key in ids)
    assert first["owner"] == copy["owner"] != other["owner"]
    assert "Jo" not in Path("proof", TABLE).read_text()
    assert small["owner"] == small["patches"] == ""
    assert len(first["patches"].split()) > 20
    assert (Path("proof") / CHECKER).exists()


def test_the_same_data_give_the_same_table_in_a_clone_and_others_elsewhere(params: Params) -> None:
    write_data((draw_photograph(1), "train", "Jo"))
    certify(DATA, params.filter, Path("first"))
    certify(DATA, params.filter, Path("second"))
    assert Path("first", TABLE).read_bytes() == Path("second", TABLE).read_bytes()
    salt = Path(".cache/certificate.salt")
    assert salt.stat().st_mode & 0o777 == 0o600
    salt.unlink()
    certify(DATA, params.filter, Path("third"))
    assert Path("first", TABLE).read_bytes() != Path("third", TABLE).read_bytes()


@pytest.mark.parametrize(
    ("alter", "kind"),
    [
        (lambda grey: grey // 2 + 50, "hashes"),
        (mirror, "common patches"),
        (caption, "common patches"),
        (crop(3), "common patches"),
    ],
)
def test_copies_in_two_splits_are_refused(params: Params, alter: Alteration, kind: str) -> None:
    write_data((draw_photograph(1), "train", None), (alter(draw_photograph(1)), "test", None))
    with pytest.raises(PipelineError, match=rf"the split has . leaks?, .*{kind}"):
        certify(DATA, params.filter, Path("proof"))
    assert not Path("proof").exists()


def test_drawings_of_one_pattern_are_no_leak(params: Params) -> None:
    dataset = dataset_toml.load(ROOT / "datasets/sample")
    assert isinstance(dataset, dataset_toml.SampleDataset)
    bicycles = [image.data for image in islice(draw_images(dataset), 87)]
    ids = write_data((bicycles[67], "train", None), (bicycles[86], "test", None))
    assert certify(DATA, params.filter, Path("proof")) == Certificate(images=2, suspected=1)
    command = [sys.executable, CHECKER, TABLE]
    strict = subprocess.run(command, cwd="proof", capture_output=True, text=True)
    assert strict.returncode == 1
    assert all(key[:12] in strict.stdout for key in ids)
    assert subprocess.run([*command, "--suspected", "1"], cwd="proof").returncode == 0


def test_an_owner_in_two_splits_is_refused(params: Params) -> None:
    write_data((draw_photograph(1), "train", "Jo"), (draw_photograph(2), "test", "Jo"))
    with pytest.raises(PipelineError, match="the same owner"):
        certify(DATA, params.filter, Path("proof"))


def test_data_of_another_run_are_refused(params: Params) -> None:
    write_data((draw_photograph(1), "train", None))
    write_split(DATA.split_csv, [SplitRow("f" * 64, "a", "train", "")])
    with pytest.raises(PipelineError, match="older than"):
        certify(DATA, params.filter, Path("proof"))
    DATA.split_csv.unlink()
    with pytest.raises(PipelineError, match="is missing"):
        certify(DATA, params.filter, Path("proof"))


def test_a_folder_with_files_is_left_alone(params: Params) -> None:
    Path("mine.txt").touch()
    with pytest.raises(PipelineError, match="not empty"):
        certify(DATA, params.filter, Path())
    assert Path("mine.txt").exists()
