from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from sklearn import metrics as reference

from pipeline.stages.evaluate.ranking import RESOLUTION, Curve, Floats, Selected, rank


@st.composite
def rankings(draw: st.DrawFn) -> tuple[Selected, Floats]:
    """Images of which some are of the class, and scores that may tie or be saturated."""
    count, decimals = draw(st.integers(2, 200)), draw(st.sampled_from([0, 1, 2, 17]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    positive = random.random(count) < draw(st.floats(0.05, 0.95))
    positive[:2] = [True, False]
    scores = np.minimum(random.random(count).round(decimals) + 0.4 * positive, 1.0)
    return positive, scores


@given(rankings())
@settings(derandomize=True, max_examples=80)
def test_it_is_scikit_learns_to_the_last_bit(result: tuple[Selected, Floats]) -> None:
    positive, scores = result
    ranking = rank(positive, scores)
    assert ranking.roc_auc == reference.roc_auc_score(positive, scores)
    assert ranking.average_precision == reference.average_precision_score(positive, scores)
    x, y, _ = reference.roc_curve(positive, scores)
    assert (ranking.roc.x.tolist(), ranking.roc.y.tolist()) == (x.tolist(), y.tolist())
    y, x, _ = reference.precision_recall_curve(positive, scores, drop_intermediate=True)
    curve = ranking.precision_recall
    assert (curve.x.tolist(), curve.y.tolist()) == (x.tolist(), y.tolist())


def drawn(curve: Curve, steps: bool) -> Floats:
    """(N, 2) Points along the drawn curve, closer to each other than half a pixel."""
    corners = np.column_stack([curve.x, curve.y])
    if steps:  # to the next x first, then to its y
        turns = np.column_stack([curve.x[1:], curve.y[:-1]])
        corners = np.insert(corners, range(1, len(corners)), turns, axis=0)
    parts = [
        np.linspace(start, end, 2 + int(np.abs(end - start).max() * RESOLUTION * 2))
        for start, end in pairwise(corners)
    ]
    return np.concatenate(parts)


def farthest(points: Floats, others: Floats) -> float:
    """The largest distance, in pixels, of one of the points from the nearest of the others."""
    distances, _ = KDTree(others).query(points, p=np.inf)
    return float(distances.max()) * RESOLUTION


@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("skill", [0.0, 1.0, 4.0])
def test_no_point_of_a_thinned_curve_moves_by_more_than_a_pixel(share: float, skill: float) -> None:
    random = np.random.default_rng(0)
    positive = random.random(4000) < share
    ranking = rank(positive, random.normal(size=4000) + skill * positive)
    for curve, steps in ((ranking.roc, False), (ranking.precision_recall, True)):
        thin = curve.thinned()
        assert len(thin.x) <= 4 * RESOLUTION
        full_points, thin_points = drawn(curve, steps), drawn(thin, steps)
        # Half a pixel more, because the points along a curve have distances.
        assert farthest(full_points, thin_points) <= 1.5
        assert farthest(thin_points, full_points) <= 1.5


def test_a_curve_of_many_thresholds_becomes_small_and_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    positive = random.random(200_000) < 0.5
    for curve in (
        (ranking := rank(positive, random.normal(size=200_000) + positive)).roc,
        ranking.precision_recall,
    ):
        thin = curve.thinned()
        assert len(curve.x) > 20_000 > 4 * RESOLUTION >= len(thin.x)
        assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (
            *(curve.x[0], curve.y[0]),
            *(curve.x[-1], curve.y[-1]),
        )


@given(rankings())
@settings(derandomize=True, max_examples=50)
def test_a_curve_of_a_small_test_set_stays_as_it_is(result: tuple[Selected, Floats]) -> None:
    ranking = rank(*result)
    for curve in (ranking.roc, ranking.precision_recall):
        thin = curve.thinned()
        assert set(thin.x) == set(curve.x)
        area, thin_area = (np.trapezoid(points.y, points.x) for points in (curve, thin))
        assert thin_area == pytest.approx(area, abs=1e-9)
