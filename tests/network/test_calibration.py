import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.network import calibration


def drawn(count: int, seed: int, scale: float) -> tuple[calibration.Floats, calibration.Labels]:
    """Logits whose softmax at a temperature of `scale` is what labels were drawn by."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 4)) * 2
    chances = calibration.probabilities(logits, 1.0)
    labels = np.array([random.choice(4, p=row) for row in chances])
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_is_found_and_makes_probabilities_mean_it(scale: float) -> None:
    logits, labels = drawn(4000, 0, scale)
    found = calibration.temperature(logits, labels)
    assert found == pytest.approx(scale, rel=0.1)
    assert calibration.bins(calibration.probabilities(logits, found), labels).error < 0.03


@given(st.integers(1, 60), st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_it_never_fits_the_validation_set_worse_and_no_answer_changes(
    count: int, seed: int
) -> None:
    logits, labels = drawn(count, seed, 2.0)
    found = calibration.temperature(logits, labels)

    def cost(divisor: float) -> float:
        chosen = calibration.probabilities(logits, divisor)[np.arange(count), labels]
        return float(-np.log(chosen).sum() + np.log(divisor) ** 2 / 2)

    assert cost(found) <= cost(1.0) + 1e-6
    answers = calibration.probabilities(logits, found).argmax(axis=1)
    assert (answers == logits.argmax(axis=1)).all()


def test_a_model_without_mistakes_is_not_made_certain_without_end() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 10)
    found = calibration.temperature(logits, np.array([0, 1] * 10))
    assert calibration.LIMITS[0] < found < 1


def test_the_error_is_the_gap_weighted_by_images() -> None:
    said = np.array([[0.9, 0.1]] * 8 + [[0.6, 0.4]] * 2)
    found = calibration.bins(said, np.array([0] * 6 + [1] * 2 + [0, 0]))
    assert found.count.tolist() == [2, 8]
    assert found.error == pytest.approx(0.2 * 0.4 + 0.8 * 0.15)


def test_full_certainty_has_a_bin() -> None:
    assert calibration.bins(np.eye(2), np.array([0, 1])).error == 0.0
