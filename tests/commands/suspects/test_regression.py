from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.commands.suspects import regression
from pipeline.commands.suspects.regression import Labels, Values


def draw(classes: int, count: int = 300, dims: int = 12) -> tuple[Values, Labels]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    values = random.normal(5, 3, (count, dims)) + 2 * random.normal(size=(classes, dims))[labels]
    values[:, 3] = 7  # a constant
    return values.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("block", [1000, 64])
def test_probabilities_are_those_of_scikit_learn(classes: int, block: int) -> None:
    values, labels = draw(classes)

    def blocks() -> Iterator[tuple[Values, Labels]]:
        for start in range(0, len(values), block):
            yield values[start : start + block], labels[start : start + block]

    model = regression.fit(blocks, classes)
    expected = make_pipeline(
        StandardScaler(), LogisticRegression(C=regression.INVERSE_PENALTY, max_iter=1000)
    ).fit(values, labels)
    probabilities = model.probabilities(values)
    assert probabilities.shape == (len(values), classes)
    np.testing.assert_allclose(probabilities, expected.predict_proba(values), atol=2e-3)
