import base64
from pathlib import Path

import pandas as pd
import pytest

from pipeline.inference.mlflow_model import MlflowModel, _load_pyfunc
from tests.builders.images import grey_png


@pytest.fixture
def served(models: Path) -> MlflowModel:
    return _load_pyfunc(str(models))


def test_bytes_and_base64_are_the_same(served: MlflowModel) -> None:
    data = grey_png(200)
    packed = base64.b64encode(data)
    answers = served.predict(pd.DataFrame({"image": [data, packed.decode(), packed]}))
    assert list(answers.columns) == ["label", "probability", "problem"]
    assert answers["label"][0] in {"plain", "striped"}
    assert len(set(answers["label"])) == len(set(answers["probability"])) == 1


@pytest.mark.parametrize("hostile", ["no base64!", "", b"", None, 7, 1.5, ["a"], "aGVsbG8="])
def test_hostile_values_are_problems_in_their_rows(served: MlflowModel, hostile: object) -> None:
    answers = served.predict(
        pd.DataFrame({"image": [grey_png(30), hostile, grey_png(200)]}, dtype=object)
    )
    assert answers["problem"][1] in {"not_an_image", "empty"}
    assert answers["label"][1] is None
    assert list(answers["problem"][[0, 2]]) == [None, None]


def test_a_very_long_image_does_not_fill_the_memory(served: MlflowModel) -> None:
    import cv2
    import numpy as np

    line = cv2.imencode(".png", np.zeros((1, 100_000, 3), np.uint8))[1].tobytes()
    assert served.predict(pd.DataFrame({"image": [line]}))["problem"][0] is None


def test_no_rows(served: MlflowModel) -> None:
    assert len(served.predict(pd.DataFrame({"image": []}))) == 0
