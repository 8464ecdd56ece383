from pathlib import Path

import pytest
import torch

from pipeline.inference.classifier import NOT_A_NUMBER, Classification, Classifier
from pipeline.inference.computed_features import ComputedFeatures

ANT = Classification((("ant", 1.0),))


@pytest.fixture(scope="module")
def classifier(striped_model: Path) -> Classifier:
    return Classifier(striped_model / "models")


def views(classifier: Classifier, count: int) -> torch.Tensor:
    size = classifier.card.preprocess.size
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def test_features_belong_to_the_images_that_were_computed(classifier: Classifier) -> None:
    computed, pixels = ComputedFeatures(), views(classifier, 2)
    problems = Classification(problem="damaged"), Classification(problem=NOT_A_NUMBER)
    with computed.collecting(classifier):
        classifier.compute_independently(pixels)
        first, second, third = computed.by_image([problems[0], ANT, problems[1]])
    assert first is None
    for values, view in ((second, pixels[0]), (third, pixels[1])):
        assert values is not None
        (expected,) = classifier._prefix(view[None])
        expected = expected.mean(dim=(2, 3)) if expected.dim() == 4 else expected
        torch.testing.assert_close(torch.from_numpy(values), expected.flatten())


def test_nothing_is_collected_outside(classifier: Classifier) -> None:
    computed = ComputedFeatures()
    with computed.collecting(classifier):
        classifier.compute_independently(views(classifier, 1))
    assert not computed.is_collecting
    classifier.compute_independently(views(classifier, 1))
    with computed.collecting(classifier):
        classifier.compute_independently(views(classifier, 1))
        assert len(computed.by_image([ANT])) == 1
        assert computed._computed.features[0].shape[0] == 1
        assert len(computed._computed.features) == 1
