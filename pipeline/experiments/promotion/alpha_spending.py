"""How small a p-value has to be, so that repeated tests rarely promote an equally good model."""

import math

RISK = 0.05  # of promoting an equally good model, ever, in PERIOD tests against a champion
PERIOD = 52  # tests: a year of weekly training


def level(number: int) -> float:
    """The significance level of the test with this number (from 1) against a champion.

    Half of the risk is spent on the first tests (as 1 / n^2: a new champion can be corrected soon),
    the other half evenly (a better model passes in any week). The levels of a period add up to less
    than RISK, so the probability that one of its tests promotes an equally good model is less than
    RISK, whatever the models and the test images have in common (Bonferroni's inequality). After a
    period this begins anew.

    Source: K. K. G. Lan, D. L. DeMets, "Discrete sequential boundaries for clinical trials" (1983).
    """
    position = (number - 1) % PERIOD + 1
    early = RISK / 2 * 6 / (math.pi * position) ** 2
    return early + RISK / 2 / PERIOD
