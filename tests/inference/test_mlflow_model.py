import base64
import textwrap
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest

from pipeline.inference.mlflow_model import MlflowModel, _load_pyfunc
from tests.builders.images import grey_png, noise_png
from tests.builders.models import scale_head


@pytest.fixture(scope="module")
def served(striped_model: Path) -> MlflowModel:
    return _load_pyfunc(str(striped_model / "models"))


def test_bytes_and_base64_are_the_same(served: MlflowModel) -> None:
    data = grey_png(200)
    packed = base64.b64encode(data)
    answers = served.predict(pd.DataFrame({"image": [data, packed.decode(), packed]}))
    assert list(answers.columns) == ["label", "probability", "problem"]
    assert answers["label"][0] in {"plain", "striped"}
    assert len(set(answers["label"])) == len(set(answers["probability"])) == 1


# Its base64 has both characters that differ between the alphabets, and padding.
PHOTO = noise_png(5, 41, 48)
PACKED = base64.b64encode(PHOTO).decode()
URL_SAFE = base64.urlsafe_b64encode(PHOTO).decode()
TEXTS = {
    "plain": PACKED,
    "lines of MIME": base64.encodebytes(PHOTO).decode(),
    "lines of PEM, of Windows": "\r\n".join(textwrap.wrap(PACKED, 64)) + "\r\n",
    "spaces around it": f"  {PACKED}\t ",
    "URL-safe": URL_SAFE,
    "without padding": PACKED.rstrip("="),
    "URL-safe without padding": URL_SAFE.rstrip("="),
    "a data URL": f"data:image/png;base64,{PACKED}",
    "with parameters": f"DATA:image/png;name=a.png;BASE64,{PACKED}",
    "without a type": f"data:;base64,{PACKED}",
    "percent-encoded": f"data:image/png;base64,{quote(PACKED, safe='')}",
    "percent-encoded bytes": f"data:image/png,{quote(PHOTO)}",
}


def test_base64_of_every_form_is_the_same_as_bytes(served: MlflowModel) -> None:
    assert {"+", "/", "="} <= set(PACKED)
    forms = [PHOTO, bytearray(PHOTO), *TEXTS.values(), *(text.encode() for text in TEXTS.values())]
    answers = served.predict(pd.DataFrame({"image": forms}, dtype=object))
    assert answers["problem"].tolist() == [None] * len(forms)
    assert len(set(answers["label"])) == 1
    assert answers["probability"].tolist() == pytest.approx(
        [answers["probability"][0]] * len(forms)
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("no base64!", "not_base64"),
        ("%%%", "not_base64"),
        ("data:image/png;base64,%%%", "not_base64"),
        ("data:image/png;base64", "empty"),
        ("https://example.org/a.png", "not_base64"),
        ("Grüße", "not_base64"),
        ("A", "not_base64"),
        (b"no base64!", "not_base64"),
        (str(PHOTO), "not_base64"),
        ("aGVsbG8=", "not_an_image"),
        (b"\0\xff\0\xff", "not_an_image"),
        ("", "empty"),
        (" \n", "empty"),
    ],
)
def test_what_is_no_base64_is_distinguished_from_what_is_no_image(
    served: MlflowModel, text: str | bytes, problem: str
) -> None:
    answers = served.predict(pd.DataFrame({"image": [text]}, dtype=object))
    assert answers["problem"].tolist() == [problem]
    assert answers["label"].tolist() == [None]


def test_a_probability_that_is_no_number_is_a_problem(models: Path) -> None:
    scale_head(models, 3e38)
    answers = _load_pyfunc(str(models)).predict(pd.DataFrame({"image": [grey_png(0)]}))
    assert answers.to_dict("records") == [
        {"label": None, "probability": None, "problem": "not_a_number"}
    ]


@pytest.mark.parametrize("hostile", ["no base64!", "", b"", None, 7, 1.5, ["a"], "aGVsbG8="])
def test_hostile_values_are_problems_in_their_rows(served: MlflowModel, hostile: object) -> None:
    answers = served.predict(
        pd.DataFrame({"image": [grey_png(30), hostile, grey_png(200)]}, dtype=object)
    )
    assert answers["problem"][1] in {"not_an_image", "not_base64", "empty"}
    assert answers["label"][1] is None
    assert list(answers["problem"][[0, 2]]) == [None, None]


def test_a_very_long_image_does_not_fill_the_memory(served: MlflowModel) -> None:
    import cv2
    import numpy as np

    line = cv2.imencode(".png", np.zeros((1, 100_000, 3), np.uint8))[1].tobytes()
    assert served.predict(pd.DataFrame({"image": [line]}))["problem"][0] is None


def test_no_rows(served: MlflowModel) -> None:
    assert len(served.predict(pd.DataFrame({"image": []}))) == 0
