import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from pipeline.network import calibration


def draw_logits(
    count: int, seed: int, scale: float
) -> tuple[calibration.Floats, calibration.Labels]:
    """Logits, and labels drawn from their softmax at a temperature of `scale`."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 4)) * 2
    chances = softmax(logits, axis=1)
    labels = np.array([random.choice(4, p=row) for row in chances])
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_calibrates_the_probabilities(scale: float) -> None:
    logits, labels = draw_logits(4000, 0, scale)
    temperature = calibration.fit_temperature(logits, labels)
    assert temperature == pytest.approx(scale, rel=0.1)
    calibrated = softmax(logits / temperature, axis=1)
    bins = calibration.reliability_bins(calibrated.max(axis=1), calibrated.argmax(axis=1) == labels)
    assert bins.error < 0.03


@given(st.integers(1, 60), st.integers(0, 99))
@settings(derandomize=True, max_examples=40)
def test_it_never_raises_the_log_loss_and_changes_no_prediction(count: int, seed: int) -> None:
    logits, labels = draw_logits(count, seed, 2.0)
    temperature = calibration.fit_temperature(logits, labels)

    def cost(divisor: float) -> float:
        values = softmax(logits / divisor, axis=1)[np.arange(count), labels]
        return float(-np.log(values).sum() + np.log(divisor) ** 2 / 2)

    assert cost(temperature) <= cost(1.0) + 1e-6
    answers = softmax(logits / temperature, axis=1).argmax(axis=1)
    assert (answers == logits.argmax(axis=1)).all()


def test_the_temperature_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw_logits(50, 3, 2.0)
    whole = calibration.fit_temperature(logits, labels)
    monkeypatch.setattr(calibration, "BLOCK", 4 * 7)
    assert calibration.fit_temperature(logits, labels) == pytest.approx(whole, abs=1e-4)


def test_a_model_without_mistakes_is_not_sharpened_without_limit() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 10)
    temperature = calibration.fit_temperature(logits, np.array([0, 1] * 10))
    assert calibration.LIMITS[0] < temperature < 1


def test_the_error_is_the_gap_weighted_by_images() -> None:
    confidence = np.array([0.9] * 8 + [0.6] * 2)
    bins = calibration.reliability_bins(confidence, np.array([True] * 6 + [False] * 2 + [True] * 2))
    assert bins.count.tolist() == [2, 8]
    assert bins.error == pytest.approx(0.2 * 0.4 + 0.8 * 0.15)


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    assert calibration.reliability_bins(np.ones(2), np.array([True, True])).error == 0.0
