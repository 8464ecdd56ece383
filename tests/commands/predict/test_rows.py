import csv
import io
import json
from dataclasses import replace

import pytest

from pipeline.commands.predict.rows import Format, Writer
from pipeline.inference.classifier import Classification
from pipeline.inference.predict import Answer, NamedImage

GOOD = Answer(
    NamedImage("a,b\x1b[31m.jpg", b""), Classification((("cat", 0.75), ("dog", 0.25))), None
)
BAD = Answer(NamedImage("text.jpg", b""), Classification(problem="not_an_image"), None)


def printed(capsys: pytest.CaptureFixture[str], form: Format, top_k: int = 1) -> str:
    writer = Writer(form, top_k)
    writer.write(replace(GOOD, prediction=Classification(GOOD.prediction.top[:top_k])))
    writer.write(BAD)
    return capsys.readouterr().out


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = map(json.loads, printed(capsys, Format.JSON, 2).splitlines())
    assert good["top"][1] == {"label": "dog", "probability": 0.25}
    assert (good["path"], good["label"], good["probability"]) == (GOOD.image.name, "cat", 0.75)
    assert bad == {
        "path": "text.jpg",
        "label": None,
        "probability": None,
        "problem": "not_an_image",
        "top": [],
    }
    assert "top" not in printed(capsys, Format.JSON)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_csv_has_as_many_cells_in_every_row(capsys: pytest.CaptureFixture[str], top_k: int) -> None:
    header, good, bad = csv.reader(io.StringIO(printed(capsys, Format.CSV, top_k)))
    assert len(header) == len(good) == len(bad) == 2 + 2 * top_k
    assert dict(zip(header, bad, strict=True))["problem"] == "not_an_image"
    row = dict(zip(header, good, strict=True))
    assert (row["path"], row["label"], row["problem"]) == (GOOD.image.name, "cat", "")
    if top_k > 1:
        assert (row["label_2"], row["probability_2"]) == ("dog", "0.25")


def test_the_table_has_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = printed(capsys, Format.TABLE, 2).splitlines()
    assert good == "a,b\\x1b[31m.jpg\tcat\t0.7500\tdog\t0.2500"
    assert bad == "text.jpg\t-\t-\tnot_an_image"
