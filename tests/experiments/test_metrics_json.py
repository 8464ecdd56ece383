import pytest

from pipeline.experiments import metrics_json


def test_figures_are_finite_numbers_or_not_defined() -> None:
    text = """{"accuracy": 0.5, "n": 4, "roc_auc": null, "loss": NaN, "a": Infinity, "b": 1e999,
        "c": "0.5", "d": true, "e": [1], "f": 1%s}""" % ("0" * 400)
    assert metrics_json.parse(text) == {"accuracy": 0.5, "n": 4, "roc_auc": None}


@pytest.mark.parametrize("text", ["", "[]", "5", "{", '{"a": 1', "[" * 100_000, "nan"])
def test_what_is_no_object_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        metrics_json.parse(text)
