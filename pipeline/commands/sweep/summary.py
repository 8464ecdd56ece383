"""What came of a sweep: the best trials, what mattered, and the line that trains the winner."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study

from pipeline.commands.sweep import search_space, study
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, TrialState
from pipeline.commands.sweep.search_space import Space, Values
from pipeline.core import history
from pipeline.core.errors import PipelineError, format_counts

SHOWN = 5
ENOUGH = 10  # complete trials, below which importances would be chance
HEADER = ["number", "state", "value", "epochs", "best_epoch", "val_loss", "val_accuracy", "reason"]


@dataclass(frozen=True)
class SweepResult:
    """All trials that have ended so far, and what they are about."""

    space: Space
    goal: Goal
    epochs: int
    """Of a whole trial, where they are not swept."""
    ended: Sequence[EndedTrial]

    @property
    def ranked(self) -> list[EndedTrial]:
        """The complete trials, the best first; of those as good, the earlier one."""
        complete = [one for one in self.ended if one.state is TrialState.COMPLETE]
        return sorted(complete, key=lambda one: (*self.goal.place(one.history), one.number))

    @property
    def winner(self) -> EndedTrial:
        """
        Raises:
            PipelineError: no trial has trained to its end.
        """
        if self.ranked:
            return self.ranked[0]
        reasons = Counter(one.reason for one in self.ended)
        if not self.ended:
            raise PipelineError("no trial has ended: run the same command again to go on")
        raise PipelineError(f"no trial trained to its end: {format_counts(reasons)}")

    def value(self, one: EndedTrial) -> float:
        return self.goal.of(one.history) if one.history else math.nan

    def counts(self) -> dict[str, int]:
        """How many trials ended how."""
        found = Counter(one.state for one in self.ended)
        return {state.value: found[state] for state in TrialState}

    def command(self) -> str:
        """The line that trains the winner."""
        return search_space.command(self.winner.values)

    def importances(self) -> dict[str, float]:
        """What share of the values' variance each param accounts for (fANOVA), the largest first.

        Of the complete trials; nothing where they are too few, or all came to the same.
        """
        values = {self.value(one) for one in self.ranked}
        if len(self.ranked) < ENOUGH or len(values) == 1 or len(self.space.drawn) < 2:
            return {}
        found = get_param_importances(self._study(), evaluator=FanovaImportanceEvaluator(seed=0))
        return {name: float(share) for name, share in found.items()}

    def _study(self) -> Study:
        return study.resumed(self.space, self.goal, self.epochs, list(self.ended))


def table(found: SweepResult) -> list[list[str]]:
    """The best trials: number, loss, accuracy, epoch and what they set."""
    rows = []
    for one in found.ranked[:SHOWN]:
        best = history.best(one.history)
        rows.append(
            [
                str(one.number),
                f"{best.val_loss:.4g}",
                f"{best.val_accuracy:.4f}",
                f"{best.epoch:g}",
                said(one.values),
            ]
        )
    return rows


def said(values: Values) -> str:
    """As in "lr=0.003 kind=mlp"."""
    return " ".join(f"{name.partition('.')[2]}={value}" for name, value in values.items())


def weighed(found: SweepResult, shares: Mapping[str, float]) -> str:
    """The importances in words."""
    if not shares:
        return (
            f"what mattered cannot be said of {len(found.ranked)} complete trials: it takes "
            f"{ENOUGH} that differ, and two params"
        )
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return f"what mattered (share of the variance between complete trials): {listed}"


def alike(found: SweepResult) -> str:
    """How far the validation set can tell the trials apart."""
    right = [history.best(one.history).val_accuracy for one in found.ranked]
    count = sum(share >= right[0] for share in right)
    if count < 2:
        return ""
    return (
        f"{count} of {len(right)} complete trials have as many validation images right as the "
        "best: between these its certainty alone decides. Train it, and ask `pipeline compare` "
        "whether it is better than what was there"
    )


def edges(found: SweepResult) -> str:
    """Which params of the winner lie at an end of what was tried."""
    values = found.winner.values
    named = [
        name for name, each in found.space.drawn.items() if search_space.at_edge(each, values[name])
    ]
    told = f"the winner is at the edge of {', '.join(named)}: wider, there may be a better one"
    return told if named else ""


def rows(found: SweepResult) -> list[list[object]]:
    """A line of trials.csv for each trial, under `HEADER` and the params' names."""
    names = [*found.space.fixed, *found.space.drawn]
    lines: list[list[object]] = []
    for one in found.ended:
        facts: list[object] = ["", "", "", "", ""]
        if one.history:
            best = history.best(one.history)
            facts = [
                found.value(one),
                one.history[-1].epoch,
                best.epoch,
                best.val_loss,
                best.val_accuracy,
            ]
        own = [one.values[name] for name in names]
        lines.append([one.number, one.state.value, *facts, one.reason, *own])
    return lines
