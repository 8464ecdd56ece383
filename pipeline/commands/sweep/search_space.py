"""The search space of a sweep, in Hydra's grammar, as for `dvc exp run -S`."""

import itertools
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
)

from pipeline.commands.sweep.distributions import (
    TrialValue,
    contains,
    interval_distribution,
    probe_values,
    range_distribution,
    round_value,
)
from pipeline.core.errors import PipelineError
from pipeline.params import Params, with_overrides

SECTIONS = ("head", "train")  # they do not change the features
MAX_COMBINATIONS = 4096  # in which a value is tried before it is refused
LOG = "log"
KIND, PENALTY = "head.kind", "train.penalty"
OF_SOLVED = (KIND, PENALTY, "train.class_weights", "head.one_logit")  # what changes a solved head

TrialValues = Mapping[str, TrialValue]


@dataclass(frozen=True)
class Space:
    """The params that vary between trials, and those that all share."""

    texts: Mapping[str, str]
    """As on the command line, by dotted name."""
    fixed: TrialValues
    distributions: Mapping[str, BaseDistribution]

    def values(self, sampled: TrialValues) -> dict[str, TrialValue]:
        """All values of a trial, by dotted name, from those of the sampler."""
        rounded = {name: round_value(self.distributions[name], sampled[name]) for name in sampled}
        return {**self.fixed, **rounded}

    def values_in(self, params: Params) -> dict[str, TrialValue] | None:
        """The values in `params`; None if one of them is outside the space."""
        flat: dict[str, Any] = params.flat()
        values = {name: flat[name] for name in self.distributions}
        inside = all(contains(self.distributions[name], value) for name, value in values.items())
        return values if inside else None


def default(params: Params) -> list[str]:
    """The overrides of a sweep without any."""
    schedules = "constant,cosine" + (",one-cycle" if not params.train.warmup_epochs else "")
    return [
        "head.kind=linear,mlp",
        "train.lr=tag(log,interval(0.0001,0.01))",
        "train.weight_decay=tag(log,interval(0.0001,1))",
        "train.batch_size=16,32,64",
        f"train.schedule={schedules}",
    ]


def command(values: TrialValues) -> str:
    """The shell command that trains with `values`."""
    options = [f"-S {shlex.quote(f'{name}={_format(value)}')}" for name, value in values.items()]
    return " ".join(["dvc exp run", *options])


def parse(overrides: Sequence[str], params: Params) -> Space:
    """Parse the overrides; of several with one name, the last counts.

    Raises:
        PipelineError: one is not in Hydra's grammar, is not of a param of head or train, or has a
            value that params do not allow.
    """
    parsed = [_parse_override(text) for text in overrides]
    texts = {str(item.key_or_group): text for item, text in zip(parsed, overrides, strict=True)}
    fixed: dict[str, TrialValue] = {}
    distributions: dict[str, BaseDistribution] = {}
    for override, text in zip(parsed, overrides, strict=True):
        name = str(override.key_or_group)
        _check_name(name, params)
        if texts[name] != text:
            continue
        if override.is_sweep_override():
            distributions[name] = _distribution(override, name)
        else:
            fixed[name] = _check_value(override.value(), text)
    values = {name: text.partition("=")[2] for name, text in texts.items()}
    space = Space(values, fixed, distributions)
    if not distributions:
        with_overrides(params, fixed)  # an invalid value is the more useful message
        raise PipelineError(
            "nothing varies, so there is nothing to sweep: give a param several values, such as "
            "-S 'train.lr=tag(log,interval(0.0001,0.1))'"
        )
    _check_values(space, params)
    _check_effects(space, params)
    return space


def _parse_override(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        why = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"-S {text!r} is not Hydra's grammar ({why}): write name=value, name=a,b, "
            "name=interval(0,1) or name=tag(log,interval(0.001,1))"
        ) from error
    if override.type is not OverrideType.CHANGE or override.package is not None:
        raise PipelineError(f"-S {text!r} adds or removes a param: a sweep changes existing ones")
    return override


def _check_name(name: str, params: Params) -> None:
    sections = {key: key.split(".")[0] for key in params.flat()}
    names = [
        key for key in sections if sections[key] in SECTIONS and key != "train.log_checkpoints"
    ]
    if name in names:
        return
    if name in sections:
        reason = (
            "changes no model"
            if sections[name] in {"train", "evaluate"}
            else "is of an earlier stage, and trials share its results"
        )
        raise PipelineError(
            f"{name} {reason}, so it cannot be swept: use `dvc exp run --queue -S {name}=...`, "
            f"or params of {' and '.join(SECTIONS)}"
        )
    raise PipelineError(f"{name} cannot be swept; these params can: {', '.join(names)}")


def _distribution(override: Override, name: str) -> BaseDistribution:
    text, value = str(override.input_line), override.value()
    if isinstance(value, Glob) or getattr(value, "shuffle", False):
        raise PipelineError(f"-S {text!r}: glob() and shuffle() are not supported")
    try:
        if isinstance(value, ChoiceSweep):
            return CategoricalDistribution([_check_value(choice, text) for choice in value.list])
        assert isinstance(value, RangeSweep | IntervalSweep)
        log = _is_log(value.tags, text)
        if isinstance(value, RangeSweep):
            return range_distribution(value, log)
        return interval_distribution(value, log, is_whole=not _takes_float(name))
    except (ValueError, TypeError) as error:  # also Optuna's, of ends that are not numbers
        raise PipelineError(f"-S {text!r}: {' '.join(str(error).split())}") from error


def _is_log(tags: set[str], text: str) -> bool:
    if tags - {LOG}:
        raise PipelineError(f"-S {text!r}: the only tag is {LOG}, as in tag(log,interval(0.001,1))")
    return LOG in tags


def _takes_float(name: str) -> bool:
    section, key = name.split(".")
    model: Any = Params.model_fields[section].annotation
    return float in _types(model.model_fields[key].annotation)


def _types(annotation: Any) -> set[Any]:
    """An annotation and, of a union, its members."""
    return {annotation}.union(*(_types(member) for member in get_args(annotation)))


def _check_value(value: Any, text: str) -> TrialValue:
    if isinstance(value, QuotedString):
        return str(value.text)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise PipelineError(f"-S {text!r}: {value} should be a text, a number, true, false or null")


def _format(value: TrialValue) -> str:
    """A value in Hydra's grammar, floats in full precision."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _check_values(space: Space, params: Params) -> None:
    """Raise PipelineError for a value that params refuse in every combination with the others."""
    probes = {name: probe_values(item) for name, item in space.distributions.items()}
    for name, values in probes.items():
        for value in values:
            refused = _first_refusal(name, value, probes, space.fixed, params)
            if refused:
                raise PipelineError(f"{name}={_format(value)}: {refused}") from refused


def _check_effects(space: Space, params: Params) -> None:
    """Raise PipelineError for a param that changes no trial, by the kinds of heads there are."""
    default = space.fixed.get(KIND, params.head.kind)
    choices = probe_values(space.distributions[KIND]) if KIND in space.distributions else [default]
    is_solved = {params.head.model_copy(update={"kind": kind}).is_solved for kind in choices}
    if is_solved == {True}:
        names = [name for name in space.distributions if name not in OF_SOLVED]
        meaning = f"{' and '.join(map(str, choices))}: vary {', '.join(OF_SOLVED)}"
    else:
        names = [PENALTY] if PENALTY in space.distributions and True not in is_solved else []
        meaning = f"{' and '.join(map(str, choices))}: add -S {KIND}=ridge,logistic"
    if names:
        raise PipelineError(f"{names[0]} changes nothing where {KIND} is {meaning}")


def _first_refusal(
    name: str,
    value: TrialValue,
    probes: Mapping[str, Sequence[TrialValue]],
    fixed: TrialValues,
    params: Params,
) -> PipelineError | None:
    """Why params refuse a value in every combination; None if they accept it in one."""
    refusal = None
    for others in itertools.islice(_combinations(name, probes), MAX_COMBINATIONS):
        try:
            with_overrides(params, {**fixed, **others, name: value})
        except PipelineError as error:
            refusal = refusal or error
        else:
            return None
    return refusal


def _combinations(
    name: str, probes: Mapping[str, Sequence[TrialValue]]
) -> Iterator[dict[str, TrialValue]]:
    """First no change, then every combination of the other params."""
    others = {other: values for other, values in probes.items() if other != name}
    yield {}
    for combination in itertools.product(*others.values()):
        yield dict(zip(others, combination, strict=True))
