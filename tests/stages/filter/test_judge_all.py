"""Judging in real worker processes, some of which die of something else than their image."""

import json
import time
from functools import partial
from pathlib import Path

import joblib
import pyarrow as pa
import pytest

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import mapping
from pipeline.params import FilterParams, load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter import judge_all, verdicts
from tests import ROOT
from tests.builders.damage import zero_bytes_of
from tests.builders.images import noise_png
from tests.builders.killer import Killer
from tests.builders.params import FILTER_PARAMS
from tests.builders.verdicts import read_verdicts

LAST = noise_png(240)
MAX_WAIT = 60  # seconds for the killer

judge_batch = judge_all.judge_batch


def judge_when_killed(gate: Path, batch: pa.RecordBatch, params: FilterParams) -> pa.RecordBatch:
    """Runs in a worker. The last image waits for the killer's end, so all kills hit the map."""
    end = time.monotonic() + MAX_WAIT
    if shards.digest(LAST) in batch.column("id").to_pylist():
        while not gate.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
    return judge_batch(batch, params)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard folder of 251 drawn images, ten of them damaged."""
    overrides = {f"filter.{key}": value for key, value in FILTER_PARAMS.model_dump().items()}
    params = with_overrides(load_params(ROOT / "params.yaml"), overrides | {"images.size": 32})
    (tmp_path / "params.yaml").write_text(json.dumps(params.model_dump()))
    (tmp_path / "dataset").mkdir()
    monkeypatch.chdir(tmp_path)
    pictures = [
        RawImage(name, name.split("/")[0], data, None, "CC0-1.0")
        for name, data in (
            *((f"cat/{number}.png", noise_png(number, 90, 100)) for number in range(240)),
            *((f"dog/{number}.png", noise_png(number)[:-200]) for number in range(10)),
            ("dog/last.png", LAST),
        )
    ]
    shards.write(tmp_path / "raw", shards.RAW, [picture.row() for picture in pictures])
    return tmp_path / "raw"


@pytest.mark.parametrize("is_remembered", [False, True])
@pytest.mark.parametrize("store_side", [40, 4000], ids=["stored anew", "stored as it is"])
def test_an_image_that_the_disk_has_damaged_is_neither_judged_nor_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_remembered: bool, store_side: int
) -> None:
    """Its bytes are not those of its id, under which the judgement would be remembered."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = FILTER_PARAMS.model_copy(update={"store_side": store_side})
    pictures = [RawImage(f"cat/{n}.png", "cat", noise_png(n, 90, 100)) for n in range(3)]
    raw = tmp_path / "raw"
    shards.write(raw, shards.RAW, [picture.row() for picture in pictures])
    if is_remembered:
        assert len(list(verdicts.judge_images(raw, {}, params).batches())) == 1
    zero_bytes_of(pictures[1].data, raw)
    if is_remembered and store_side == 40:  # what is stored comes from the memo
        (batch,) = verdicts.judge_images(raw, {}, params).batches()
        assert batch.column("reason").null_count == 3
        return
    with pytest.raises(PipelineError, match=r"has changed on disk: `pipeline doctor --repair`"):
        list(verdicts.judge_images(raw, {}, params).batches())


def test_a_killer_of_workers_as_when_memory_is_short_changes_no_verdict(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six workers of the stage are killed at random; every byte is as without a kill."""
    monkeypatch.setattr(mapping, "CHUNK", 16)
    outputs = []
    for name, kills in (("calm", 0), ("killed", 6)):
        out = tmp_path / name
        out.mkdir()
        monkeypatch.setenv("DVC_ROOT", str(out))  # a memo of its own
        monkeypatch.setattr(
            judge_all, "judge_batch", partial(judge_when_killed, out / "all-killed")
        )
        with joblib.parallel_config("loky", n_jobs=2), Killer(kills, out / "all-killed"):
            filtering.main(tmp_path / "dataset", raw, out / "clean", out / "verdicts.csv")
        assert (out / "all-killed").exists()
        files = [out / "verdicts.csv", *sorted((out / "clean").iterdir())]
        outputs.append([file.read_bytes() for file in files])
    assert outputs[1] == outputs[0]
    verdicts = read_verdicts(tmp_path / "killed/verdicts.csv")
    assert {row.reason for row in verdicts if row.label == "cat"} == {""}
    assert [row.reason for row in verdicts if row.label == "dog"] == ["damaged"] * 10 + [""]
