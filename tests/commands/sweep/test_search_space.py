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
        ("head.kind=linear,ridge", CategoricalDistribution(["linear", "ridge"])),
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
    (parsed,) = search_space.parse([text], SHIPPED).distributions.values()
    if isinstance(expected, FloatDistribution) and isinstance(parsed, FloatDistribution):
        assert parsed.high == pytest.approx(expected.high)
        expected.high = parsed.high
    assert parsed == expected


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["train.lr=interval(1"], "-S 'train.lr=interval(1' is not Hydra's grammar"),
        (["+train.new=1,2"], "-S '+train.new=1,2' adds or removes a param"),
        (["~train.lr"], "-S '~train.lr' adds or removes a param"),
        (["images.size=128,224"], "images.size is of an earlier stage"),
        (["evaluate.samples=1,2"], "evaluate.samples changes no model"),
        (["train.log_checkpoints=none,best"], "train.log_checkpoints changes no model"),
        (["train.rate=1,2"], "train.rate cannot be swept; these params can: head.kind, "),
        (["lr=1,2"], "lr cannot be swept"),
        (
            ["head.kind=ridge,logistic", "train.lr=1,2"],
            "train.lr changes nothing where head.kind is ridge and logistic: vary head.kind, ",
        ),
        (
            ["head.kind=ridge", "train.epochs=1,2"],
            "train.epochs changes nothing where head.kind is ridge: vary head.kind, ",
        ),
        (
            ["train.penalty=1,2"],
            "train.penalty changes nothing where head.kind is linear: add -S head.kind=ridge,",
        ),
        (["train.lr=0.1"], "nothing varies"),
        (["train.lr="], "params: train.lr = '', but should be a valid number"),
        (["train.lr=interval(2,1)"], "-S 'train.lr=interval(2,1)': the interval should start"),
        (
            ["train.lr=tag(log,interval(0,1))"],
            "-S 'train.lr=tag(log,interval(0,1))': a logarithmic",
        ),
        (["train.lr=tag(deep,interval(1,2))"], "-S 'train.lr=tag(deep,interval(1,2))': the only"),
        (["train.epochs=interval(0.5,2)"], "-S 'train.epochs=interval(0.5,2)': the param is a"),
        (["train.epochs=range(3,3)"], "-S 'train.epochs=range(3,3)': the range is empty"),
        (["train.epochs=tag(log,range(1,9))"], "-S 'train.epochs=tag(log,range(1,9))': a range"),
        (["train.lr=glob(*)"], "-S 'train.lr=glob(*)': glob() and"),
        (["train.lr=[1],[2]"], "-S 'train.lr=[1],[2]': [1] should be"),
        (["train.lr=interval(-1,1)"], "train.lr=-1.0: params: train.lr = -1.0, but should be"),
        (["head.kind=linear,deep"], "head.kind=deep: params: head.kind = 'deep', but should be"),
        (["train.lr=1,2", "head.hidden=0"], "train.lr=1: params: head.hidden = 0, but should be"),
        (["train.warmup_epochs=0,40"], "train.warmup_epochs=40: train.warmup_epochs = 40"),
    ],
)
def test_invalid_overrides_are_refused(texts: list[str], sentence: str) -> None:
    with pytest.raises(PipelineError) as caught:
        search_space.parse(texts, SHIPPED)
    assert str(caught.value).replace("params: train.warmup", "train.warmup").startswith(sentence)


def test_a_value_that_is_valid_in_some_combination_is_allowed() -> None:
    space = search_space.parse(["train.warmup_epochs=0,40", "train.epochs=30,60"], SHIPPED)
    assert set(space.distributions) == {"train.warmup_epochs", "train.epochs"}


def test_a_single_value_is_fixed_and_the_last_override_of_a_param_counts() -> None:
    space = search_space.parse(["train.epochs=3", "train.lr=1,2", "train.lr=3,4"], SHIPPED)
    assert space.fixed == {"train.epochs": 3}
    assert space.distributions == {"train.lr": CategoricalDistribution([3, 4])}
    assert space.values({"train.lr": 3}) == {"train.epochs": 3, "train.lr": 3}


def test_the_default_space_contains_the_shipped_params() -> None:
    space = search_space.parse(search_space.default(SHIPPED), SHIPPED)
    assert space.values_in(SHIPPED) == {name: SHIPPED.flat()[name] for name in space.distributions}
    warm = with_overrides(SHIPPED, {"train.warmup_epochs": 2})
    search_space.parse(search_space.default(warm), warm)


def test_the_params_may_be_outside_the_space() -> None:
    assert search_space.parse(["train.lr=interval(1,2)"], SHIPPED).values_in(SHIPPED) is None
    assert search_space.parse(["train.epochs=range(1,40,4)"], SHIPPED).values_in(SHIPPED) is None
    assert (
        search_space.parse(["train.epochs=range(2,40,4)"], SHIPPED).values_in(SHIPPED) is not None
    )


FLOATS = st.floats(1e-9, 1e6, allow_nan=False)


@given(st.tuples(FLOATS, FLOATS).filter(lambda ends: ends[0] < ends[1]), st.floats(0, 1))
def test_a_sampled_float_is_short_and_within_its_interval(
    ends: tuple[float, float], share: float
) -> None:
    low, high = ends
    space = search_space.parse([f"train.lr=interval({low!r},{high!r})"], SHIPPED)
    sampled = min(low + share * (high - low), high)
    value = space.values({"train.lr": sampled})["train.lr"]
    assert isinstance(value, float)
    assert low <= value <= high
    assert value == pytest.approx(sampled, rel=1e-3)
    assert value in {low, high} or len(re.sub(r"e.*|\D", "", repr(value)).strip("0")) <= 4


@given(st.lists(st.integers(1, 999), min_size=2, unique=True))
def test_a_choice_has_the_listed_values(values: list[int]) -> None:
    space = search_space.parse([f"train.batch_size={','.join(map(str, values))}"], SHIPPED)
    assert space.distributions == {"train.batch_size": CategoricalDistribution(values)}


@given(
    lr=FLOATS,
    decay=st.floats(0, 1e3),
    hidden=st.integers(1, 4096),
    one_logit=st.booleans(),
    patience=st.none() | st.integers(1, 99),
    kind=st.sampled_from(["linear", "mlp"]),
)
def test_dvc_parses_the_command_to_the_same_values(
    tmp_path_factory: pytest.TempPathFactory, **sampled: Any
) -> None:
    keys = {
        "lr": "train.lr",
        "decay": "train.weight_decay",
        "hidden": "head.hidden",
        "one_logit": "head.one_logit",
        "patience": "train.patience",
        "kind": "head.kind",
    }
    values = {keys[name]: value for name, value in sampled.items()}
    words = shlex.split(search_space.command(values))
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) == {"-S"}
    path = tmp_path_factory.mktemp("project") / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, words[4::2])
    assert load_params(path) == with_overrides(SHIPPED, values)
