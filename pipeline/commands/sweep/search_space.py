"""What a sweep may try, in Hydra's grammar, as `dvc exp run -S` has it."""

import itertools
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.core.errors import PipelineError
from pipeline.params import Params, with_overrides

SHARING = ("head", "train")  # sections whose values leave the features as they are
DIGITS = 4  # of a number that is drawn: more would make no better model, and a longer command
EDGE = 0.05  # of an interval, from its ends
MAX_TRIED = 4096  # combinations, to see whether a value has a place in any
LOG = "log"

Value = str | int | float | bool | None
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Space:
    """What varies between trials, and what all of them share."""

    texts: Mapping[str, str]
    """By dotted name, as it was given."""
    fixed: Values
    drawn: Mapping[str, BaseDistribution]

    def values(self, drawn: Values) -> dict[str, Value]:
        """All that a trial sets, by dotted name, of what the sampler has drawn."""
        return {**self.fixed, **{name: _shorter(self.drawn[name], drawn[name]) for name in drawn}}

    def start(self, params: Params) -> dict[str, Value] | None:
        """The values of `settings`, where all of them may be drawn."""
        flat: dict[str, Any] = params.flat()
        found = {name: flat[name] for name in self.drawn}
        inside = all(_contains(self.drawn[name], value) for name, value in found.items())
        return found if inside else None


def default(params: Params) -> list[str]:
    """What is worth trying with a head."""
    schedules = "constant,cosine" + (",one-cycle" if not params.train.warmup_epochs else "")
    return [
        "head.kind=linear,mlp",
        "train.lr=tag(log,interval(0.0001,0.01))",
        "train.weight_decay=tag(log,interval(0.0001,1))",
        "train.batch_size=16,32,64",
        f"train.schedule={schedules}",
    ]


def command(values: Values) -> str:
    """The line that trains with `values`, for a shell."""
    options = [f"-S {shlex.quote(f'{name}={_written(value)}')}" for name, value in values.items()]
    return " ".join(["dvc exp run", *options])


def parse(overrides: Sequence[str], params: Params) -> Space:
    """The space that `overrides` span; the last one of a name wins.

    Raises:
        PipelineError: it is not Hydra's grammar, not a param that leaves the features as they are,
            or a value that params do not allow.
    """
    found = [_parsed(text) for text in overrides]
    texts = {str(each.key_or_group): text for each, text in zip(found, overrides, strict=True)}
    fixed: dict[str, Value] = {}
    drawn: dict[str, BaseDistribution] = {}
    for each, text in zip(found, overrides, strict=True):
        name = str(each.key_or_group)
        _check_name(name, params)
        if texts[name] != text:
            continue
        if each.is_sweep_override():
            drawn[name] = _distribution(each, name)
        else:
            fixed[name] = _plain(each.value(), text)
    space = Space({name: text.partition("=")[2] for name, text in texts.items()}, fixed, drawn)
    if not drawn:
        with_overrides(params, fixed)  # what is wrong there is told first
        raise PipelineError(
            "nothing varies, so there is nothing to sweep: give a param several values, such as "
            "-S 'train.lr=tag(log,interval(0.0001,0.1))'"
        )
    _check_values(space, params)
    return space


def _parsed(text: str) -> Override:
    try:
        found = OverridesParser.create().parse_override(text)
    except HydraException as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"-S {text!r} is not Hydra's grammar ({why}): write name=value, name=a,b, "
            "name=interval(0,1) or name=tag(log,interval(0.001,1))"
        ) from error
    if found.type is not OverrideType.CHANGE or found.package is not None:
        raise PipelineError(f"-S {text!r} adds or removes a param: a sweep sets those there are")
    return found


def _check_name(name: str, params: Params) -> None:
    section = name.partition(".")[0]
    known = [each for each in params.flat() if each.split(".")[0] in SHARING]
    if name in known and name != "train.log_checkpoints":
        return
    if name in params.flat():
        reason = (
            "changes no model"
            if section in {"train", "evaluate"}
            else "is of a stage before, and trials share its results"
        )
        raise PipelineError(
            f"{name} {reason}, so it is nothing to sweep: use `dvc exp run --queue -S {name}=...`, "
            f"or params of {' and '.join(SHARING)}"
        )
    raise PipelineError(f"{name} is no param of a sweep; those are {', '.join(known)}")


def _distribution(each: Override, name: str) -> BaseDistribution:
    text, value = str(each.input_line), each.value()
    if isinstance(value, Glob) or getattr(value, "shuffle", False):
        raise PipelineError(f"-S {text!r}: a sweep knows no glob() and no shuffle()")
    try:
        if isinstance(value, ChoiceSweep):
            return CategoricalDistribution([_plain(one, text) for one in value.list])
        assert isinstance(value, RangeSweep | IntervalSweep)
        log = _is_log(value.tags, text)
        if isinstance(value, RangeSweep):
            return _stepped(value, log)
        return _between(value, log, whole=not _takes_float(name))
    except (ValueError, TypeError) as error:  # Optuna's, about ends that are no ends
        raise PipelineError(f"-S {text!r}: {' '.join(str(error).split())}") from error


def _is_log(tags: set[str], text: str) -> bool:
    if tags - {LOG}:
        raise PipelineError(f"-S {text!r}: the only tag is {LOG}, as in tag(log,interval(0.001,1))")
    return LOG in tags


def _stepped(value: RangeSweep, log: bool) -> BaseDistribution:
    """A range, whose end is not in it, as in Python."""
    assert value.start is not None
    assert value.stop is not None
    if log:
        raise ValueError("a range has no logarithm: use tag(log,interval(...))")
    count = sum(1 for _ in value.range())
    if not count:
        raise ValueError("the range is empty")
    step = abs(value.step)
    low, high = sorted([value.start, value.start + (count - 1) * value.step])
    if isinstance(low, int) and isinstance(step, int):
        return IntDistribution(low, int(high), step=step)
    return FloatDistribution(low, high, step=step)


def _between(value: IntervalSweep, log: bool, whole: bool) -> BaseDistribution:
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if low >= high:
        raise ValueError(f"the interval should grow, and {low} is not below {high}")
    if log and low <= 0:
        raise ValueError(f"an interval of a logarithm begins above 0, not at {low}")
    if isinstance(low, int) and isinstance(high, int):  # int(interval(...))
        whole = True
    if not whole:
        return FloatDistribution(low, high, log=log)
    if int(low) != low or int(high) != high:
        raise ValueError("the param is a whole number, so the interval's ends should be")
    return IntDistribution(int(low), int(high), log=log)


def at_edge(distribution: BaseDistribution, value: Value) -> bool:
    """Whether a number lies at an end of what it was drawn from."""
    if isinstance(distribution, CategoricalDistribution):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    assert isinstance(value, int | float)
    ends = [distribution.low, value, distribution.high]
    low, own, high = (math.log(each) for each in ends) if distribution.log else ends
    return low < high and min(own - low, high - own) <= EDGE * (high - low)


def _takes_float(name: str) -> bool:
    section, key = name.split(".")
    model: Any = Params.model_fields[section].annotation
    return float in _types(model.model_fields[key].annotation)


def _types(annotation: Any) -> set[Any]:
    """An annotation, and all that it is made of."""
    return {annotation}.union(*(_types(part) for part in get_args(annotation)))


def _plain(value: Any, text: str) -> Value:
    if isinstance(value, QuotedString):
        return str(value.text)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise PipelineError(f"-S {text!r}: {value} is no value of a param of a sweep")


def _shorter(distribution: BaseDistribution, value: Value) -> Value:
    """A float that was drawn, in few digits, inside of where it was drawn from."""
    if not isinstance(distribution, FloatDistribution) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)


def _contains(distribution: BaseDistribution, value: Value) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(
            value == choice and type(value) is type(choice) for choice in distribution.choices
        )
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not distribution.low <= value <= distribution.high:
        return False
    steps = (value - distribution.low) / (distribution.step or 1)
    return distribution.step is None or abs(steps - round(steps)) < 1e-8


def _written(value: Value) -> str:
    """As Hydra reads it: floats to the last bit."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _probes(distribution: BaseDistribution) -> list[Value]:
    """Every choice, or both ends."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]


def _check_values(space: Space, params: Params) -> None:
    """Raise PipelineError for a value that params refuse beside all others that are tried."""
    tried = {name: _probes(each) for name, each in space.drawn.items()}
    for name, probes in tried.items():
        for value in probes:
            refused = None
            for others in itertools.islice(_beside(name, tried), MAX_TRIED):
                try:
                    with_overrides(params, {**space.fixed, **others, name: value})
                except PipelineError as error:
                    refused = refused or error
                else:
                    refused = None
                    break
            if refused:
                raise PipelineError(f"{name}={_written(value)}: {refused}") from refused


def _beside(name: str, tried: Mapping[str, Sequence[Value]]) -> Iterator[dict[str, Value]]:
    """First what stands in params.yaml, then every combination of the others."""
    others = {each: probes for each, probes in tried.items() if each != name}
    yield {}
    for chosen in itertools.product(*others.values()):
        yield dict(zip(others, chosen, strict=True))
