import json
import re
from pathlib import Path

import pytest

from pipeline.commands.ci.overrides import Overrides, parse_overrides
from pipeline.core.errors import PipelineError
from pipeline.params import load_params
from tests import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets/ants").mkdir(parents=True)
    (tmp_path / "datasets/ants/dataset.toml").touch()


@pytest.mark.usefixtures("folder")
def test_overrides_become_options_of_dvc_and_a_stable_name() -> None:
    overrides = parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.003"])
    assert overrides.options() == [
        "-S",
        "dataset.name=ants",
        "-S",
        "model.backbone=timm/resnet18.a1_in1k",
        "-S",
        "dataset.source=datasets",
        "-S",
        "train.lr=0.003",
    ]
    assert re.fullmatch(r"ci-name-ants-backbone-[\w-]*-[0-9a-f]{6}", overrides.experiment)
    assert (
        overrides.experiment
        == parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.003"]).experiment
    )
    assert (
        overrides.experiment
        != parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.03"]).experiment
    )
    assert parse_overrides(None, "", []).values == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "value", ["dataset.source=/photos", "++dataset.source=/photos", "dataset={name: a, source: b}"]
)
def test_a_source_that_is_set_is_left(value: str) -> None:
    assert parse_overrides("ants", None, [value]).values == ("dataset.name=ants", value)


@pytest.mark.usefixtures("folder")
def test_the_data_set_of_params_yaml_keeps_its_source() -> None:
    values = load_params(ROOT / "params.yaml").model_dump()
    values["dataset"] = {"name": "ants", "source": "/photos/of/ants"}
    Path("params.yaml").write_text(json.dumps(values))
    assert parse_overrides("ants", None, []).values == ("dataset.name=ants",)
    values["dataset"]["name"] = "wasps"
    Path("params.yaml").write_text(json.dumps(values))
    expected = ("dataset.name=ants", "dataset.source=datasets")
    assert parse_overrides("ants", None, []).values == expected


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("dataset", "values", "sentence"),
    [
        ("wasps", [], "no data set is called 'wasps': ants"),
        ("../x", [], "no data set is called"),
        (None, ["train.lr"], "is not KEY=VALUE with a key of params.yaml"),
        (None, ["dvc.yaml:stages.train.cmd=id"], "is not KEY=VALUE"),
        (None, ["-f"], "is not KEY=VALUE"),
        (None, ["dataset.source=x'; id; '"], "no single quote"),
        (None, ["dataset.source=${train.schedule}/.."], "is not allowed in a value"),
        (None, ["train.log_checkpoints=${oc.env:HOME}"], "is not allowed in a value"),
        (None, ["+dataset={name: \"';id;'\"}"], "no single quote"),
    ],
)
def test_invalid_overrides_are_refused(
    dataset: str | None, values: list[str], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        parse_overrides(dataset, None, values)


def test_other_differences_from_the_commit_are_unrequested() -> None:
    committed = {"train.lr": 0.1, "train.epochs": 3, "split.seed": 1}
    current: dict[str, object] = {
        "train.lr": 0.2,
        "train.epochs": 3,
        "split.seed": 2,
        "train.new": 1,
    }
    assert Overrides(()).unrequested(committed, committed) == []
    assert Overrides(("train.lr=0.2",)).unrequested(committed, current) == [
        "split.seed=2",
        "train.new=1",
    ]
    assert Overrides(("train={lr: 1}", "~split.seed")).unrequested(committed, current) == []


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            "train.epoch=3",
            r"params.yaml: train.epoch = 3 is not a known key (did you mean epochs?)",
        ),
        ("+train.epoch=3", "params.yaml: train.epoch = 3 is not a known key"),
        ("nokey=1", "params.yaml: nokey = 1 is not a known key"),
        ("train.lr=fast", "params.yaml: train.lr = 'fast', but should be a valid number"),
        ("~train.lr", "params.yaml: train.lr is missing"),
        ("~train.rate", "-S ~train.rate: "),
        ("train.lr=[", "-S train.lr=[: "),
    ],
)
def test_an_invalid_value_is_refused_before_anything_runs(value: str, sentence: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Overrides((value,)).validate(ROOT / "params.yaml")
    assert str(caught.value).startswith(sentence)


def test_valid_values_pass() -> None:
    Overrides(("train.lr=0.5", "++train.epochs=3", "train.patience=null")).validate(
        ROOT / "params.yaml"
    )
