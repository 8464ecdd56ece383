import re
import shlex
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.commands.sweep import search_space
from pipeline.core.errors import PipelineError
from pipeline.params import load_params, with_overrides
from tests import ROOT

SHIPPED = load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.lr=tag(log,interval(0.0001,0.1))", FloatDistribution(0.0001, 0.1, log=True)),
        ("train.lr=interval(1,5)", FloatDistribution(1, 5)),
        ("train.epochs=interval(1,5)", IntDistribution(1, 5)),
        ("train.patience=interval(1,5)", IntDistribution(1, 5)),
        ("head.hidden=tag(log,interval(16,1024))", IntDistribution(16, 1024, log=True)),
        ("train.lr=int(interval(1,5))", IntDistribution(1, 5)),
        ("head.kind=linear,mlp", CategoricalDistribution(["linear", "mlp"])),
        ("head.kind=choice(linear,'mlp')", CategoricalDistribution(["linear", "mlp"])),
        ("head.one_logit=true,false", CategoricalDistribution([True, False])),
        ("train.patience=null,3", CategoricalDistribution([None, 3])),
        ("train.epochs=range(5,31,5)", IntDistribution(5, 30, step=5)),
        ("train.epochs=range(9,3,-2)", IntDistribution(5, 9, step=2)),
        ("head.dropout=range(0.1,0.6,0.1)", FloatDistribution(0.1, 0.5, step=0.1)),
    ],
)
def test_hydras_grammar_becomes_optunas_distributions(
    text: str, expected: BaseDistribution
) -> None:
    (found,) = search_space.parse([text], SHIPPED).drawn.values()
    if isinstance(expected, FloatDistribution) and isinstance(found, FloatDistribution):
        assert found.high == pytest.approx(expected.high)
        expected.high = found.high
    assert found == expected


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["train.lr=interval(1"], "-S 'train.lr=interval(1' is not Hydra's grammar"),
        (["+train.new=1,2"], "-S '+train.new=1,2' adds or removes a param"),
        (["~train.lr"], "-S '~train.lr' adds or removes a param"),
        (["images.size=128,224"], "images.size is of a stage before"),
        (["evaluate.samples=1,2"], "evaluate.samples changes no model"),
        (["train.log_checkpoints=none,best"], "train.log_checkpoints changes no model"),
        (["train.rate=1,2"], "train.rate is no param of a sweep; those are head.kind, "),
        (["lr=1,2"], "lr is no param of a sweep"),
        (["train.lr=0.1"], "nothing varies"),
        (["train.lr="], "params: train.lr = '', but should be a valid number"),
        (["train.lr=interval(2,1)"], "-S 'train.lr=interval(2,1)': the interval should grow"),
        (["train.lr=tag(log,interval(0,1))"], "-S 'train.lr=tag(log,interval(0,1))': an interval"),
        (["train.lr=tag(deep,interval(1,2))"], "-S 'train.lr=tag(deep,interval(1,2))': the only"),
        (["train.epochs=interval(0.5,2)"], "-S 'train.epochs=interval(0.5,2)': the param is a"),
        (["train.epochs=range(3,3)"], "-S 'train.epochs=range(3,3)': the range is empty"),
        (["train.epochs=tag(log,range(1,9))"], "-S 'train.epochs=tag(log,range(1,9))': a range"),
        (["train.lr=glob(*)"], "-S 'train.lr=glob(*)': a sweep knows no glob()"),
        (["train.lr=[1],[2]"], "-S 'train.lr=[1],[2]': [1] is no value"),
        (["train.lr=interval(-1,1)"], "train.lr=-1.0: params: train.lr = -1.0, but should be"),
        (["head.kind=linear,deep"], "head.kind=deep: params: head.kind = 'deep', but should be"),
        (["train.lr=1,2", "head.hidden=0"], "train.lr=1: params: head.hidden = 0, but should be"),
        (["train.warmup_epochs=0,40"], "train.warmup_epochs=40: train.warmup_epochs = 40"),
    ],
)
def test_what_is_no_space_is_told(texts: list[str], sentence: str) -> None:
    with pytest.raises(PipelineError) as caught:
        search_space.parse(texts, SHIPPED)
    assert str(caught.value).replace("params: train.warmup", "train.warmup").startswith(sentence)


def test_a_value_that_fits_beside_some_others_is_allowed() -> None:
    found = search_space.parse(["train.warmup_epochs=0,40", "train.epochs=30,60"], SHIPPED)
    assert set(found.drawn) == {"train.warmup_epochs", "train.epochs"}


def test_a_plain_value_is_fixed_and_the_last_of_a_name_wins() -> None:
    found = search_space.parse(["train.epochs=3", "train.lr=1,2", "train.lr=3,4"], SHIPPED)
    assert found.fixed == {"train.epochs": 3}
    assert found.drawn == {"train.lr": CategoricalDistribution([3, 4])}
    assert found.values({"train.lr": 3}) == {"train.epochs": 3, "train.lr": 3}


def test_the_default_space_has_the_shipped_params_in_it() -> None:
    found = search_space.parse(search_space.default(SHIPPED), SHIPPED)
    assert found.start(SHIPPED) == {name: SHIPPED.flat()[name] for name in found.drawn}
    warm = with_overrides(SHIPPED, {"train.warmup_epochs": 2})
    search_space.parse(search_space.default(warm), warm)


def test_what_stands_in_params_may_be_outside() -> None:
    assert search_space.parse(["train.lr=interval(1,2)"], SHIPPED).start(SHIPPED) is None
    assert search_space.parse(["train.epochs=range(1,40,4)"], SHIPPED).start(SHIPPED) is None
    assert search_space.parse(["train.epochs=range(2,40,4)"], SHIPPED).start(SHIPPED) is not None


@pytest.mark.parametrize(
    ("text", "value", "edge"),
    [
        ("train.lr=tag(log,interval(0.0001,0.01))", 0.0099, True),
        ("train.lr=tag(log,interval(0.0001,0.01))", 0.0011, False),
        ("train.lr=interval(0.0001,0.01)", 0.0001, True),
        ("train.lr=interval(0.0001,0.01)", 0.0011, False),
        ("train.epochs=range(5,31,5)", 30, True),
        ("train.epochs=range(5,31,5)", 25, False),
        ("head.kind=linear,mlp", "mlp", False),
    ],
)
def test_the_ends_of_what_was_tried_are_its_edges(
    text: str, value: search_space.Value, edge: bool
) -> None:
    (distribution,) = search_space.parse([text], SHIPPED).drawn.values()
    assert search_space.at_edge(distribution, value) is edge


FLOATS = st.floats(1e-9, 1e6, allow_nan=False)


@given(st.tuples(FLOATS, FLOATS).filter(lambda ends: ends[0] < ends[1]), st.floats(0, 1))
def test_a_float_that_is_drawn_is_short_and_inside(ends: tuple[float, float], share: float) -> None:
    low, high = ends
    found = search_space.parse([f"train.lr=interval({low!r},{high!r})"], SHIPPED)
    drawn = min(low + share * (high - low), high)
    value = found.values({"train.lr": drawn})["train.lr"]
    assert isinstance(value, float)
    assert low <= value <= high
    assert value == pytest.approx(drawn, rel=1e-3)
    assert value in {low, high} or len(re.sub(r"e.*|\D", "", repr(value)).strip("0")) <= 4


@given(st.lists(st.integers(1, 999), min_size=2, unique=True))
def test_a_choice_has_what_was_listed(values: list[int]) -> None:
    found = search_space.parse([f"train.batch_size={','.join(map(str, values))}"], SHIPPED)
    assert found.drawn == {"train.batch_size": CategoricalDistribution(values)}


@given(
    lr=FLOATS,
    decay=st.floats(0, 1e3),
    hidden=st.integers(1, 4096),
    one=st.booleans(),
    patience=st.none() | st.integers(1, 99),
    kind=st.sampled_from(["linear", "mlp"]),
)
def test_dvc_reads_from_the_command_what_was_trained_with(
    tmp_path_factory: pytest.TempPathFactory, **drawn: Any
) -> None:
    keys = {
        "lr": "train.lr",
        "decay": "train.weight_decay",
        "hidden": "head.hidden",
        "one": "head.one_logit",
        "patience": "train.patience",
        "kind": "head.kind",
    }
    values = {keys[name]: value for name, value in drawn.items()}
    words = shlex.split(search_space.command(values))
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) == {"-S"}
    path = tmp_path_factory.mktemp("project") / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, words[4::2])
    assert load_params(path) == with_overrides(SHIPPED, values)
