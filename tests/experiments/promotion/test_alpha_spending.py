from pipeline.experiments.promotion.alpha_spending import PERIOD, RISK, level


def test_the_levels_of_a_period_add_up_to_less_than_the_risk() -> None:
    for start in (1, PERIOD + 1):
        assert sum(level(number) for number in range(start, start + PERIOD)) < RISK


def test_every_test_of_many_years_may_promote() -> None:
    assert min(level(number) for number in range(1, 10 * PERIOD)) > RISK / 2 / PERIOD
    assert level(PERIOD + 1) == level(1) > level(2) > level(PERIOD)
