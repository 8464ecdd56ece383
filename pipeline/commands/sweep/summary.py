"""The result of a sweep: the best trials, which params mattered, the command of the winner."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from pipeline.commands.sweep import distributions, search_space
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, TrialState
from pipeline.commands.sweep.search_space import Space, TrialValues
from pipeline.commands.sweep.study import create_study
from pipeline.core import history
from pipeline.core.errors import PipelineError, format_counts
from pipeline.core.percentages import format_share

MAX_ROWS = 5  # of the printed table
MIN_TRIALS = 10  # complete ones, for importances that are more than chance
HEADER = ["number", "state", "value", "epochs", "best_epoch", "val_loss", "val_accuracy", "reason"]


@dataclass(frozen=True)
class SweepResult:
    """The trials that have ended so far, and the space and goal of their sweep."""

    space: Space
    goal: Goal
    epochs: int
    """train.epochs of params.yaml."""
    trials: Sequence[EndedTrial]

    @property
    def complete(self) -> list[EndedTrial]:
        """The complete trials, in order of number."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @property
    def ranked(self) -> list[EndedTrial]:
        """The complete trials, the best first; equal ones by number."""
        return sorted(
            self.complete, key=lambda trial: (*self.goal.sort_key(trial.history), trial.number)
        )

    @property
    def winner(self) -> EndedTrial:
        """
        Raises:
            PipelineError: no trial is complete.
        """
        if self.ranked:
            return self.ranked[0]
        if not self.trials:
            raise PipelineError("no trial has ended: run the same command again to continue")
        reasons = Counter(trial.reason for trial in self.trials)
        raise PipelineError(f"no trial trained to its end: {format_counts(reasons)}")

    def value(self, trial: EndedTrial) -> float:
        return self.goal.value_of(trial.history) if trial.history else math.nan

    def counts(self) -> dict[str, int]:
        """Numbers of trials by state."""
        counts = Counter(trial.state for trial in self.trials)
        return {state.value: counts[state] for state in TrialState}

    def command(self) -> str:
        """The command that trains the winner."""
        return search_space.command(self.winner.values)

    def importances(self) -> dict[str, float]:
        """Share of the variance of the values that each param explains (fANOVA), largest first.

        Of the complete trials; empty if there are too few, or all have the same value.
        """
        values = {self.value(trial) for trial in self.complete}
        if len(self.complete) < MIN_TRIALS or len(values) == 1 or len(self.space.distributions) < 2:
            return {}
        study = create_study(self.space, self.goal, self.epochs, list(self.trials))
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        return {name: float(share) for name, share in shares.items()}


def table(result: SweepResult) -> list[list[str]]:
    """The best trials: number, loss, accuracy, epoch and params."""
    rows = []
    for trial in result.ranked[:MAX_ROWS]:
        best = history.best(trial.history)
        loss, accuracy = f"{best.val_loss:.4g}", f"{best.val_accuracy:.4f}"
        rows.append(
            [str(trial.number), loss, accuracy, f"{best.epoch:g}", format_values(trial.values)]
        )
    return rows


def format_values(values: TrialValues) -> str:
    """Values on one line, as in "lr=0.003 kind=mlp"."""
    return " ".join(f"{name.partition('.')[2]}={value}" for name, value in values.items())


def describe_importances(result: SweepResult, shares: Mapping[str, float]) -> str:
    """The importances in a sentence."""
    if not shares:
        return (
            f"{len(result.complete)} complete trials are too few to estimate which params mattered:"
            f" it takes {MIN_TRIALS} with different values, and two params"
        )
    text = ", ".join(f"{name} {format_share(share, 0)}" for name, share in shares.items())
    return f"what mattered (share of the variance between complete trials): {text}"


def describe_ties(result: SweepResult) -> str:
    """A warning if other trials have the winner's validation accuracy, or a higher one; else ""."""
    accuracies = [history.best(trial.history).val_accuracy for trial in result.ranked]
    higher = sum(accuracy > accuracies[0] for accuracy in accuracies)
    ties = sum(accuracy == accuracies[0] for accuracy in accuracies)
    if higher:
        sentence = (
            f"{higher} of {len(accuracies)} complete trials got more validation images right than "
            "the winner, whose validation loss is the lowest"
        )
    elif ties > 1:
        sentence = (
            f"{ties} of {len(accuracies)} complete trials have as many validation images right as "
            "the winner: they differ in confidence alone"
        )
    else:
        return ""
    return (
        f"{sentence}. Train the winner, then check with `pipeline compare` whether it is better "
        "than your current model"
    )


def describe_edges(result: SweepResult) -> str:
    """The winner's params that are at an edge of their interval; "" if there are none."""
    values = result.winner.values
    names = [
        name
        for name, distribution in result.space.distributions.items()
        if distributions.is_at_edge(distribution, values[name])
    ]
    if not names:
        return ""
    return (
        f"the winner is at the edge of {', '.join(names)}: a wider interval may have a better one"
    )


def csv_rows(result: SweepResult) -> list[list[object]]:
    """The rows of trials.csv, under `HEADER` and the names of the params."""
    names = [*result.space.fixed, *result.space.distributions]
    rows: list[list[object]] = []
    for trial in result.trials:
        figures: list[object] = ["", "", "", "", ""]
        if trial.history:
            best = history.best(trial.history)
            last_epoch = trial.history[-1].epoch
            figures = [
                result.value(trial),
                last_epoch,
                best.epoch,
                best.val_loss,
                best.val_accuracy,
            ]
        values = [trial.values[name] for name in names]
        rows.append([trial.number, trial.state.value, *figures, trial.reason, *values])
    return rows
