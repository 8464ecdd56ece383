import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.commands.sweep import distributions
from pipeline.commands.sweep.distributions import TrialValue

LOGARITHMIC = FloatDistribution(0.0001, 0.01, log=True)
LINEAR = FloatDistribution(0.0001, 0.01)
STEPS = IntDistribution(5, 30, step=5)
CHOICES = CategoricalDistribution(["linear", "mlp"])


@pytest.mark.parametrize(
    ("distribution", "value", "edge"),
    [
        (LOGARITHMIC, 0.0099, True),
        (LOGARITHMIC, 0.0011, False),
        (LINEAR, 0.0001, True),
        (LINEAR, 0.0011, False),
        (STEPS, 30, True),
        (STEPS, 25, False),
        (CHOICES, "mlp", False),
    ],
)
def test_values_close_to_an_end_are_at_the_edge(
    distribution: BaseDistribution, value: TrialValue, edge: bool
) -> None:
    assert distributions.is_at_edge(distribution, value) is edge


@pytest.mark.parametrize(
    ("distribution", "value", "inside"),
    [
        (STEPS, 25, True),
        (STEPS, 26, False),
        (STEPS, 35, False),
        (STEPS, True, False),
        (LINEAR, 0.01, True),
        (LINEAR, "0.01", False),
        (CHOICES, "mlp", True),
        (CHOICES, None, False),
        (CategoricalDistribution([1]), True, False),
    ],
)
def test_a_distribution_contains_what_the_sampler_can_give(
    distribution: BaseDistribution, value: TrialValue, inside: bool
) -> None:
    assert distributions.contains(distribution, value) is inside


def test_a_float_is_rounded_within_its_interval() -> None:
    assert distributions.round_value(LINEAR, 0.00123456) == 0.001235
    assert distributions.round_value(FloatDistribution(0, 0.12346), 0.12346) == 0.12346
    assert distributions.round_value(STEPS, 25) == 25
