"""The loop over trials: what Optuna draws is trained, watched, and told back.

What a trial draws is a function of the seed, its number and the trials before it, so a sweep that
goes on after a kill draws what it would have drawn.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, PercentilePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as OptunaState

from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, Journal, TrialState
from pipeline.commands.sweep.search_space import Space
from pipeline.commands.sweep.trainer import Trainer
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.params import Params, with_overrides

RANDOM = 10  # trials before the sampler learns from others, and before one is pruned
BETTER = 25.0  # per cent of the complete trials that one has to be among, epoch by epoch
UNTOUCHED = 0.2  # share of the epochs before which no trial is pruned
OF_OPTUNA = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


def run(
    trainer: Trainer,
    space: Space,
    goal: Goal,
    seed: int,
    total: int,
    journal: Journal,
    told: Callable[[EndedTrial], None],
) -> None:
    """Add trials to `journal` until there are `total`, and tell of each."""
    study = resumed(space, goal, trainer.params.train.epochs, journal.ended)
    for number in range(len(journal.ended), total):
        study.sampler = _sampler(seed, number)
        one = _trial(trainer, space, goal, study)
        journal.add(one)
        told(one)


def resumed(space: Space, goal: Goal, epochs: int, ended: list[EndedTrial]) -> Study:
    """A study that knows of `ended`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=goal.direction, pruner=_pruner(epochs))
    study.add_trials([_frozen(one, space.drawn, goal) for one in ended])
    return study


def _sampler(seed: int, number: int) -> BaseSampler:
    (own,) = np.random.SeedSequence([seed, number]).generate_state(1)
    return TPESampler(seed=int(own), multivariate=True, n_startup_trials=RANDOM)


def _pruner(epochs: int) -> BasePruner:
    return PercentilePruner(
        BETTER, n_startup_trials=RANDOM, n_warmup_steps=round(UNTOUCHED * epochs)
    )


def _trial(trainer: Trainer, space: Space, goal: Goal, study: Study) -> EndedTrial:
    """The next trial, from its first step to its last."""
    start = space.start(trainer.params)
    if not study.trials and start is not None:
        study.enqueue_trial(start)  # what stands in params.yaml is to be beaten
    began, history = _now(), list[Record]()
    trial = study.ask(dict(space.drawn))
    values, reason = space.values(trial.params), ""
    try:
        params = with_overrides(trainer.params, values)
        state = _watched(trainer.fit(params), params, goal, trial, history)
    except PipelineError as error:
        state, reason = TrialState.FAILED, str(error)
    # Of one that was pruned, Optuna takes what was reported last.
    study.tell(trial, goal.of(history) if state is TrialState.COMPLETE else None, OF_OPTUNA[state])
    return EndedTrial(trial.number, state, trial.params, values, history, began, _now(), reason)


def _watched(
    records: Iterator[Record], params: Params, goal: Goal, trial: Trial, history: list[Record]
) -> TrialState:
    """Add a training's records to `history`, until it ends or is pruned."""
    for record in records:
        history.append(record)
        epoch = round(record.epoch)
        if record.epoch == epoch:
            trial.report(goal.of(history), epoch)
            if epoch < params.train.epochs and trial.should_prune():
                return TrialState.PRUNED
    return TrialState.COMPLETE


def _frozen(one: EndedTrial, drawn: Mapping[str, BaseDistribution], goal: Goal) -> FrozenTrial:
    """As the study knew it when it ended."""
    reported: dict[int, float] = {}
    for place, record in enumerate(one.history, start=1):
        epoch = round(record.epoch)
        if record.epoch == epoch:
            reported[epoch] = goal.of(one.history[:place])
    value: Any = None if one.state is TrialState.FAILED else goal.of(one.history)
    return create_trial(
        state=OF_OPTUNA[one.state],
        value=value,
        params=dict(one.drawn),
        distributions=dict(drawn),
        intermediate_values=reported,
    )


def _now() -> int:
    return int(time.time() * 1000)
