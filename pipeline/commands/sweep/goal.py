"""What a sweep looks for, and how far a training has come towards it. Never the test set."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pipeline.core import history as records
from pipeline.core.history import Record


class Goal(StrEnum):
    """A figure of the weights that stage train would keep: those with the lowest loss."""

    VAL_LOSS = "val_loss"
    VAL_ACCURACY = "val_accuracy"

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """As Optuna names it."""
        return "minimize" if self is Goal.VAL_LOSS else "maximize"

    def of(self, history: Sequence[Record]) -> float:
        """The figure after these validations."""
        return float(getattr(records.best(history), self.value))

    def place(self, history: Sequence[Record]) -> tuple[float, float]:
        """What sorts trainings, the best first; of those that are equally often right, by loss."""
        value = self.of(history)
        loss = records.best(history).val_loss
        return (value, loss) if self is Goal.VAL_LOSS else (-value, loss)
