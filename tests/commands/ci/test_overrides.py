import re

import pytest

from pipeline.commands.ci.overrides import Overrides, parse_overrides
from pipeline.core.errors import PipelineError
from tests import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets/ants").mkdir(parents=True)
    (tmp_path / "datasets/ants/dataset.toml").touch()


@pytest.mark.usefixtures("folder")
def test_what_is_asked_goes_to_dvc_and_into_a_name_that_stays() -> None:
    one = parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.003"])
    assert one.options() == [
        "-S",
        "dataset.name=ants",
        "-S",
        "model.backbone=timm/resnet18.a1_in1k",
        "-S",
        "train.lr=0.003",
    ]
    assert re.fullmatch(r"ci-name-ants-backbone-[\w-]*-[0-9a-f]{6}", one.experiment)
    assert (
        one.experiment
        == parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.003"]).experiment
    )
    assert (
        one.experiment
        != parse_overrides("ants", "timm/resnet18.a1_in1k", ["train.lr=0.03"]).experiment
    )
    assert parse_overrides(None, "", []).changes == ()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("dataset", "changes", "sentence"),
    [
        ("wasps", [], "no data set is called 'wasps': ants"),
        ("../x", [], "no data set is called"),
        (None, ["train.lr"], "is not KEY=VALUE with a key of params.yaml"),
        (None, ["dvc.yaml:stages.train.cmd=id"], "is not KEY=VALUE"),
        (None, ["-f"], "is not KEY=VALUE"),
        (None, ["dataset.source=x'; id; '"], "no single quote"),
        (None, ["dataset.source=${train.schedule}/.."], "is given as it is"),
        (None, ["train.log_checkpoints=${oc.env:HOME}"], "is given as it is"),
        (None, ["+dataset={name: \"';id;'\"}"], "no single quote"),
    ],
)
def test_what_is_no_param_is_refused(
    dataset: str | None, changes: list[str], sentence: str
) -> None:
    with pytest.raises(PipelineError, match=re.escape(sentence)):
        parse_overrides(dataset, None, changes)


def test_values_that_nobody_asked_for_are_foreign() -> None:
    committed = {"train.lr": 0.1, "train.epochs": 3, "split.seed": 1}
    now: dict[str, object] = {"train.lr": 0.2, "train.epochs": 3, "split.seed": 2, "train.new": 1}
    assert Overrides(()).foreign(committed, committed) == []
    assert Overrides(("train.lr=0.2",)).foreign(committed, now) == ["split.seed=2", "train.new=1"]
    assert Overrides(("train={lr: 1}", "~split.seed")).foreign(committed, now) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
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
def test_what_every_stage_would_refuse_is_refused_first(change: str, sentence: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Overrides((change,)).check(ROOT / "params.yaml")
    assert str(caught.value).startswith(sentence)


def test_a_value_that_params_take_passes() -> None:
    Overrides(("train.lr=0.5", "++train.epochs=3", "train.patience=null")).check(
        ROOT / "params.yaml"
    )
