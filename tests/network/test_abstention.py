from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipeline.core.errors import PipelineError
from pipeline.network import model_folder
from pipeline.network.abstention import Abstention, AbstentionRule, Distance
from tests.builders.models import LINEAR_HEAD, save_untrained

TENSORS = {
    "means": torch.tensor([[0.0, 0.0], [4.0, 0.0]]),
    "directions": torch.tensor([[1.0, 0.0]]),
    "weights": torch.tensor([0.75, 0.5]),  # variances 8 and 2
}


def make_rule(least: float = 0.5, farthest: float | None = None) -> AbstentionRule:
    promises = Abstention(
        coverage=0.95,
        least_probability=least,
        coverage_low=0.9,
        coverage_high=0.99,
        false_alarms=0.05,
        farthest=farthest,
        groups=100,
        images=100,
    )
    return AbstentionRule(promises, Distance(TENSORS))


SCORES = st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=6)
LEVELS = st.floats(0, 1)


@given(SCORES, LEVELS, LEVELS)
def test_sets_have_the_likeliest_class_and_shrink_with_the_threshold(
    scores: list[float], first: float, second: float
) -> None:
    probabilities = torch.tensor([scores]).softmax(dim=1)
    large, small = (make_rule(least).sets(probabilities)[0] for least in sorted([first, second]))
    assert small[probabilities[0].argmax()]
    assert (large | ~small).all()
    limit = np.float32(max(first, second))
    likely = probabilities[0].numpy() >= limit
    assert small.tolist() == likely.tolist() or not likely.any()


def test_classes_at_the_threshold_are_in_the_set() -> None:
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.75, 0.125]])
    assert make_rule(0.25).sets(probabilities).sum(dim=1).tolist() == [3, 3, 1]
    assert make_rule(0.0).sets(probabilities).all()


def test_images_beyond_the_limit_are_far_and_none_without_a_limit() -> None:
    inputs = torch.tensor([[0.0, 0.0], [4.0, 2.0], [2.0, 2.0], [-4.0, 0.0]])
    rule = make_rule(farthest=2.0)
    assert rule.distance(inputs).tolist() == pytest.approx([0, 2, 2.5, 2])
    assert rule.is_far(inputs).tolist() == [False, False, True, False]
    assert not make_rule(farthest=None).is_far(1e6 * inputs).any()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a model that abstains."""
    card = save_untrained(tmp_path / "models", "cifar_cnn", LINEAR_HEAD, None, 32)
    network, _ = model_folder.load(tmp_path / "models")
    model_folder.save(tmp_path / "models", network, card, make_rule(farthest=2.0))
    return tmp_path / "models"


def test_a_saved_rule_loads(folder: Path) -> None:
    card = model_folder.read_card(folder)
    rule = model_folder.load_abstention(folder, card)
    assert rule is not None
    assert rule.abstention == make_rule(farthest=2.0).abstention
    assert all(torch.equal(rule.distance.state_dict()[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        {"means": torch.zeros(2, 3)},
        {"directions": torch.zeros(2, 2)},
        {"weights": torch.tensor([0.5, torch.nan])},
        {"weights": torch.zeros(2, 1)},
        {"other": torch.zeros(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_distance_is_one_sentence(folder: Path, change: dict[str, torch.Tensor]) -> None:
    save_file(TENSORS | change, folder / model_folder.DISTANCE)
    with pytest.raises(PipelineError, match="is damaged: tensors of the distance"):
        model_folder.load_abstention(folder, model_folder.read_card(folder))


def test_a_missing_distance_is_one_sentence(folder: Path) -> None:
    (folder / model_folder.DISTANCE).unlink()
    with pytest.raises(PipelineError, match="no model in"):
        model_folder.load_abstention(folder, model_folder.read_card(folder))


def test_a_model_saved_without_a_rule_promises_nothing(folder: Path) -> None:
    network, card = model_folder.load(folder)
    model_folder.save(folder, network, card)
    assert model_folder.read_card(folder).abstention is None
    assert not (folder / model_folder.DISTANCE).exists()
