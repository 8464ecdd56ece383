"""Whether a challenger may take the champion's place, by the test images of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipeline.experiments.comparison import (
    SIGNIFICANCE,
    Comparison,
    PairedAnswers,
    compare,
    list_names,
    pair_answers,
)
from pipeline.experiments.predictions import ModelPredictions
from pipeline.experiments.promotion import superiority


class Decision(StrEnum):
    """What the gate says."""

    BETTER = "better"
    NO_DIFFERENCE = "no difference shown"
    BORDERLINE = "borderline"
    WORSE_CLASS = "a class is worse"
    LOST_CLASS = "a class is missing"


@dataclass(frozen=True)
class GateResult:
    """The test of a challenger against the champion."""

    comparison: Comparison
    """A is the champion, B the challenger."""
    p: float
    """One-sided, that the challenger is no better; by groups."""
    level: float
    """What `p` may be at most in this test, of the many against this champion."""
    worse_classes: Sequence[str]
    """Classes that the challenger recognises less well, at 5 % for all of them together (Holm)."""

    @property
    def decision(self) -> Decision:
        if self.comparison.own_classes[0]:
            return Decision.LOST_CLASS
        if self.worse_classes:
            return Decision.WORSE_CLASS
        # The interval by the paired bootstrap is another test of the same, at 2.5 % on this side.
        if self.p <= self.level and self.comparison.accuracy_interval.low > 0:
            return Decision.BETTER
        is_close = self.p <= SIGNIFICANCE and self.comparison.difference > 0
        return Decision.BORDERLINE if is_close else Decision.NO_DIFFERENCE

    def sentence(self, champion: str, challenger: str) -> str:
        """Why the challenger is promoted, or not; the arguments are names for the models."""
        comparison = self.comparison
        counts = (
            f"of {comparison.n} test images that neither has seen, {comparison.gained} gained and "
            f"{comparison.lost} lost"
        )
        test = f"{counts} (p = {self.p:.2g}; this test needs at most {self.level:.2g})"
        return {
            Decision.BETTER: f"{challenger} is better than {champion}: {test}",
            Decision.NO_DIFFERENCE: f"no difference shown from {champion}: {test}",
            Decision.BORDERLINE: f"{challenger} may be better than {champion}, but that is not "
            f"certain enough for one of many tests: {test}",
            Decision.WORSE_CLASS: f"{challenger} is worse than {champion} at "
            f"{list_names(self.worse_classes)}: {test}",
            Decision.LOST_CLASS: f"{challenger} does not know "
            f"{list_names(comparison.own_classes[0])}, which {champion} does",
        }[self.decision]


def judge(champion: ModelPredictions, challenger: ModelPredictions, level: float) -> GateResult:
    """Test whether the challenger is better, and no class of it is worse.

    Args:
        champion: Its predictions for images that neither model has seen; `challenger` likewise.
        level: Of the test's p-value, as `alpha_spending.level` gives it.

    Raises:
        PipelineError: the models cannot be compared.
    """
    pairs = pair_answers(champion, challenger)
    return GateResult(
        compare(champion, challenger),
        superiority.p_value(pairs.right_a, pairs.right_b, pairs.groups),
        level,
        _worse_classes(pairs),
    )


def _worse_classes(pairs: PairedAnswers) -> list[str]:
    labels = np.array([prediction.label for prediction in pairs.of_b])
    p_values = {}
    for name in pairs.classes:
        images = labels == name
        if images.any():
            p_values[name] = superiority.p_value(
                pairs.right_b[images], pairs.right_a[images], pairs.groups[images]
            )
    return superiority.holm(p_values, SIGNIFICANCE)
