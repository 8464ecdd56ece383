"""How often `pipeline promote` promotes an equally good model, and a better one.

python -m bench.promotion [--simulations 1000]

Every week a model is trained and challenges the champion. Of the test images, some are hard: a
training classifies each of them rightly by chance, the others always the same way. With one fixed
test set the champion's answers stay, and its luck with them; with new images every week they do
not. The decision is the gate's own, of counts of images that one model alone classifies rightly,
without its last question: that no class is worse.
"""

import argparse
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.experiments.promotion import alpha_spending, superiority
from pipeline.stages.evaluate import intervals
from pipeline.stages.evaluate.intervals import ALONE

WEEKS = 52
WINDOW = 4  # weeks in which a better model should be promoted
BETTER = 0.02  # of accuracy
DISCORDANT = (0.02, 0.04, 0.08, 0.15)  # share of the images that one model alone gets right
SIZES = (300, 1000, 2000, 5000)  # test images
STARTS = (1, 27)  # number of the first test of the better model
Counts = npt.NDArray[np.int64]


@cache
def evidence(gained: int, lost: int, count: int) -> tuple[float, bool]:
    """The p-value, and whether the interval by the bootstrap is above zero."""
    first = np.zeros(count, bool)
    second = np.zeros(count, bool)
    second[:gained] = True
    first[gained : gained + lost] = True
    groups = np.full(count, ALONE)
    interval = intervals.difference(first.astype(float), second.astype(float), groups)
    return superiority.p_value(first, second, groups), interval.low > 0


def passes(gained: int, lost: int, count: int, number: int) -> bool:
    """Whether the gate promotes in the test with this number."""
    if gained <= lost:
        return False
    p, is_above_zero = evidence(gained, lost, count)
    return p <= alpha_spending.level(number) and is_above_zero


def draw(
    random: np.random.Generator, count: int, discordant: float, better: float, is_fixed: bool
) -> tuple[Counts, Counts]:
    """(WEEKS,) images that the challenger alone gets right, and that the champion alone does."""
    hard = round(2 * discordant * count)  # each is discordant in half of the weeks
    chance = 0.5 + better / (2 * discordant)  # of the challenger; the champion's is 0.5
    champion = random.random((1 if is_fixed else WEEKS, hard)) < 0.5
    challenger = random.random((WEEKS, hard)) < chance
    return (challenger & ~champion).sum(axis=1), (~challenger & champion).sum(axis=1)


def share_promoted(
    simulations: int, count: int, discordant: float, better: float, is_fixed: bool, tests: range
) -> float:
    """The share of simulations in which one of these tests promotes."""
    random = np.random.default_rng(0)
    promoted = 0
    for _ in range(simulations):
        gained, lost = draw(random, count, discordant, better, is_fixed)
        promoted += any(
            passes(int(gained[week]), int(lost[week]), count, number)
            for week, number in enumerate(tests)
        )
    return promoted / simulations


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=1000)
    simulations = parser.parse_args().simulations
    print(f"share promoted, {simulations} simulations each; test set new every week / fixed")
    print("\nequally good, in any of 52 weeks")
    year = range(1, WEEKS + 1)
    for count in SIZES:
        for discordant in DISCORDANT:
            shares = [
                share_promoted(simulations, count, discordant, 0.0, is_fixed, year)
                for is_fixed in (False, True)
            ]
            print(
                f"{count:6} images, {discordant:4.0%} discordant: ", *map("{:.3f}".format, shares)
            )
    print(f"\nbetter by {BETTER:.0%}, within {WINDOW} weeks from test number")
    for count in SIZES:
        for discordant in DISCORDANT:
            cells = []
            for start in STARTS:
                tests = range(start, start + WINDOW)
                shares = [
                    share_promoted(simulations, count, discordant, BETTER, is_fixed, tests)
                    for is_fixed in (False, True)
                ]
                cells.append(f"{start}: " + " ".join(map("{:.3f}".format, shares)))
            print(f"{count:6} images, {discordant:4.0%} discordant: ", "   ".join(cells))


if __name__ == "__main__":
    main()
