"""The figure that a sweep optimises, always of the validation set."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pipeline.core import history
from pipeline.core.history import Record


class Goal(StrEnum):
    """A figure of the weights that stage train keeps: those with the lowest validation loss."""

    VAL_LOSS = "val_loss"
    VAL_ACCURACY = "val_accuracy"

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """As Optuna names it."""
        return "minimize" if self is Goal.VAL_LOSS else "maximize"

    def value_of(self, records: Sequence[Record]) -> float:
        """The figure after these validations."""
        return float(getattr(history.best(records), self.value))

    def sort_key(self, records: Sequence[Record]) -> tuple[float, float]:
        """Sorts trainings, the best first; equal accuracies by loss."""
        value, loss = self.value_of(records), history.best(records).val_loss
        return (value, loss) if self is Goal.VAL_LOSS else (-value, loss)
