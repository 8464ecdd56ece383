"""The stage: what it says of a model is so, and the page that says it is whole."""

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from pipeline.core import shards
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.predict import NamedImage, predict
from pipeline.network import calibration, feature_store, model_folder
from pipeline.network import examples as batches
from pipeline.params import Params
from pipeline.stages.evaluate import report, slices, test_set
from pipeline.stages.evaluate.metrics import Figures
from tests.builders.stages import CLEAN, MODELS, REPORT, SPLIT, evaluate_stage
from tests.html_page import Page


def predictions() -> list[dict[str, str]]:
    with Path("reports/test/predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_figures_are_scikit_learns_on_the_saved_predictions(figures: Figures) -> None:
    rows = predictions()
    labels = np.array([row["label"] == "striped" for row in rows])
    chances = np.array([[float(row["p.plain"]), float(row["p.striped"])] for row in rows])
    assert figures["n"] == len(rows) == len(batches.read_examples(SPLIT).rows("test"))
    assert figures["accuracy"] == reference.accuracy_score(labels, chances.argmax(axis=1))
    assert figures["loss"] == pytest.approx(reference.log_loss(labels, chances), rel=1e-12)
    found = reference.roc_auc_score(labels, chances[:, 1])
    assert figures["roc_auc.striped"] == pytest.approx(found, rel=1e-12)
    found = reference.average_precision_score(labels, chances[:, 1])
    assert figures["average_precision.striped"] == pytest.approx(found, rel=1e-12)
    for what in ("precision", "recall", "f1"):
        found = getattr(reference, f"{what}_score")(labels, chances.argmax(axis=1))
        assert figures[f"{what}.striped"] == pytest.approx(found, rel=1e-12)


def test_predict_says_the_probabilities_that_were_judged(figures: Figures) -> None:
    stored = shards.columns(CLEAN, ["id", "bytes"]).to_pylist()
    encoded = {row["id"]: row["bytes"] for row in stored}
    rows = predictions()
    classifier = Classifier(MODELS)
    images = [NamedImage(row["id"], encoded[row["id"]]) for row in rows]
    with DecoderPool(1) as decoders:
        said = [each.prediction for each in predict(classifier, decoders, images)]
    for row, found in zip(rows, said, strict=True):
        assert found.label == row["predicted"]
        assert found.probability == pytest.approx(float(row[f"p.{row['predicted']}"]), abs=1e-5)


def test_the_temperature_of_the_card_is_the_validation_sets(
    figures: Figures, params: Params
) -> None:
    _, card = model_folder.load(MODELS)
    assert figures["temperature"] == card.temperature != 1.0
    examples = batches.read_examples(SPLIT)
    opened = test_set.load_model(MODELS, Path("data/features"), CLEAN, examples, params.device)
    rows = examples.rows("val")
    logits = feature_store.logits(opened.trained, opened.source, rows, 16).double().numpy()
    found = calibration.temperature(logits, examples.labels[rows].numpy())
    assert found == pytest.approx(card.temperature, rel=1e-4)
    assert figures["loss"] != figures["loss.as_trained"]


def test_twice_the_same_bytes(figures: Figures) -> None:
    def outputs() -> dict[str, bytes]:
        files = [REPORT, Path("reports/metrics.json"), *Path("reports/test").iterdir()]
        return {str(path): path.read_bytes() for path in sorted(files)}

    first = outputs()
    assert evaluate_stage() == figures
    assert outputs() == first


def test_the_page_says_what_the_figures_say(figures: Figures) -> None:
    html = REPORT.read_text()
    seen = Page(html)
    text = " ".join(" ".join(seen.text_of.values()).split())
    assert f"{100 * figures['accuracy']:.1f} %" in text
    (classes,) = [
        rows for rows in seen.tables.values() if rows[0][0] == "class" and "f1" in rows[0]
    ]
    names = [row[0] for row in classes[1:]]
    assert names == ["plain", "striped", "macro average"]
    assert classes[2][1] == str(figures["n.striped"])
    assert classes[2][classes[0].index("f1")] == f"{figures['f1.striped']:.4f}"
    assert html.count('<img class="chart"') >= 5
    for source in html.split('src="')[1:]:
        kind, _, content = source.split('"')[0].partition(",")
        assert kind in {"data:image/png;base64", "data:image/jpeg;base64"}
        Image.open(io.BytesIO(base64.b64decode(content))).verify()


def test_names_of_strangers_are_text_on_the_page(figures: Figures) -> None:
    name = "<script>alert(1)</script>"
    _, card = model_folder.load(MODELS)
    renamed = {key.replace("striped", name): value for key, value in figures.items()}
    split = Path("other.csv")
    split.write_text(SPLIT.read_text().replace("striped", name))
    page = report.Page(
        name,
        {"train": {"lr": name}},
        card.model_copy(update={"classes": ["plain", name]}),
        renamed,
        Path("reports/test"),
        CLEAN,
        split,
        grouped=True,
    )
    html = page.html({"git.commit": "<b>1f</b>"})
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>1f</b>" not in html


@pytest.mark.parametrize(
    ("near", "sides", "names"),
    [
        ([None, None], [500, 500], set()),
        (["1f", None], [500, 500], {"near_duplicates", "no_near_duplicates"}),
        ([None, None], [10, 500], {"enlarged", "not_enlarged"}),
    ],
)
def test_slices_are_those_that_split_the_test_set(
    figures: Figures, near: list[str | None], sides: list[int], names: set[str]
) -> None:
    facts = [
        {
            "near_group": group,
            "width": side,
            "height": 600,
            "name": "a/1.jpg",
            "label": "a",
            "licence": None,
        }
        for group, side in zip(near, sides, strict=True)
    ]
    found = slices.slices(facts, model_folder.load(MODELS)[1])
    assert found.keys() == names
    assert all(selected.sum() == 1 for selected in found.values())


def test_slices_by_source_are_folders_below_the_class_and_licences(figures: Figures) -> None:
    places = ["set/a/phone/1.jpg", "set/a/phone/2.jpg", "set/b/web/x/3.jpg", "set/b/4.jpg"]
    licences = ["CC BY 4.0", None, None, None]
    facts = [
        {
            "near_group": None,
            "width": 500,
            "height": 600,
            "name": name,
            "label": name[4],
            "licence": licence,
        }
        for name, licence in zip(places, licences, strict=True)
    ]
    found = slices.slices(facts, model_folder.load(MODELS)[1])
    assert {name: int(selected.sum()) for name, selected in found.items()} == {
        "folder phone": 2,
        "folder web/x": 1,
        "folder none": 1,
        "licence CC BY 4.0": 1,
        "licence none": 3,
    }


def test_owners_are_credited_on_the_page(figures: Figures, params: Params) -> None:
    rows = shards.columns(CLEAN, shards.CLEAN.names).to_pylist()
    named = [row | {"owner": "<Ann>" if place % 2 else None} for place, row in enumerate(rows)]
    shards.write(CLEAN, shards.CLEAN, named)
    _, card = model_folder.load(MODELS)
    page = report.Page("set", {}, card, figures, Path("reports/test"), CLEAN, SPLIT, grouped=False)
    assert f'By 1 owner</summary><p class="soft">&lt;Ann&gt; ({len(rows) // 2})' in page.html({})
