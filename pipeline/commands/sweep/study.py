"""The loop over trials: Optuna samples params, a trainer trains with them.

The params of a trial depend on the seed, its number and the trials before it alone, so a sweep that
continues after a kill samples the same ones.
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

RANDOM_TRIALS = 10  # before the sampler learns from earlier trials, and before any is pruned
BEST_PERCENT = 25.0  # of the complete trials; a trial outside of them at the same epoch is pruned
WARMUP_SHARE = 0.2  # of the epochs, in which no trial is pruned
OPTUNA_STATES = {
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
    on_end: Callable[[EndedTrial], None],
) -> None:
    """Add trials to `journal` until there are `total`; call `on_end` after each."""
    study = create_study(space, goal, trainer.params.train.epochs, journal.trials)
    for number in range(len(journal.trials), total):
        study.sampler = create_sampler(seed, number)
        trial = _run_trial(trainer, space, goal, study)
        journal.add(trial)
        on_end(trial)


def create_study(space: Space, goal: Goal, epochs: int, trials: list[EndedTrial]) -> Study:
    """Create a study in memory, with `trials` in it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=goal.direction, pruner=_create_pruner(epochs))
    study.add_trials([_freeze(trial, space.distributions, goal) for trial in trials])
    return study


def create_sampler(seed: int, number: int) -> BaseSampler:
    """Create the sampler of trial `number`: each has a seed of its own."""
    (own,) = np.random.SeedSequence([seed, number]).generate_state(1)
    return TPESampler(seed=int(own), multivariate=True, n_startup_trials=RANDOM_TRIALS)


def _create_pruner(epochs: int) -> BasePruner:
    # Optuna prunes from step `n_warmup_steps` on, and epochs count from 1.
    first = round(WARMUP_SHARE * epochs) + 1
    return PercentilePruner(BEST_PERCENT, n_startup_trials=RANDOM_TRIALS, n_warmup_steps=first)


def _run_trial(trainer: Trainer, space: Space, goal: Goal, study: Study) -> EndedTrial:
    current = space.values_in(trainer.params)
    if not study.trials and current is not None:
        study.enqueue_trial(current)  # trial 0: params.yaml as it is
    start_ms, history = _now_ms(), list[Record]()
    trial = study.ask(dict(space.distributions))
    values, reason = space.values(trial.params), ""
    try:
        params = with_overrides(trainer.params, values)
        state = _train(trainer.fit(params), params, goal, trial, history)
    except PipelineError as error:
        state, reason = TrialState.FAILED, str(error)
    # The value of a pruned trial is the last one reported.
    value = goal.value_of(history) if state is TrialState.COMPLETE else None
    study.tell(trial, value, OPTUNA_STATES[state])
    return EndedTrial(
        trial.number, state, trial.params, values, history, start_ms, _now_ms(), reason
    )


def _train(
    records: Iterator[Record], params: Params, goal: Goal, trial: Trial, history: list[Record]
) -> TrialState:
    """Append the records of a training to `history` until it ends or is pruned."""
    for record in records:
        history.append(record)
        epoch = round(record.epoch)
        if record.epoch == epoch:
            trial.report(goal.value_of(history), epoch)
            is_last = params.head.is_solved or epoch == params.train.epochs
            if not is_last and trial.should_prune():
                return TrialState.PRUNED
    return TrialState.COMPLETE


def _freeze(
    trial: EndedTrial, distributions: Mapping[str, BaseDistribution], goal: Goal
) -> FrozenTrial:
    """The trial as the study had it when it ended."""
    reported: dict[int, float] = {}
    for count, record in enumerate(trial.history, start=1):
        epoch = round(record.epoch)
        if record.epoch == epoch:
            reported[epoch] = goal.value_of(trial.history[:count])
    value: Any = None if trial.state is TrialState.FAILED else goal.value_of(trial.history)
    return create_trial(
        state=OPTUNA_STATES[trial.state],
        value=value,
        params=dict(trial.sampled),
        distributions=dict(distributions),
        intermediate_values=reported,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
