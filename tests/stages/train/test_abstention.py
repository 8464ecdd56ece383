"""The rule of a trained model, against what the model then answers."""

from pathlib import Path

import pytest
import torch

from pipeline.core import shards
from pipeline.images import decoding
from pipeline.inference.classifier import Classifier, Outputs, join
from pipeline.network import model_folder
from pipeline.params import Params
from pipeline.stages.train import abstention, loop
from pipeline.stages.train.calibration_images import draw, set_aside
from tests.builders.models import prepare_job
from tests.builders.params import NARROW_RESNET, override

OF_TORCH = pytest.mark.usefixtures("torch_engine")


def train_abstaining(dataset: Path, params: Params) -> list[str]:
    """Train a model that abstains into models/; the ids of the images that were set aside."""
    job, card, examples = prepare_job(dataset, params)
    calibration = draw(dataset / "split.csv", examples, params.abstention)
    changed = set_aside(examples, calibration.rows)
    list(loop.fit(job, changed, params.train))
    head = job.network.get_submodule(card.replaced)
    rule = abstention.fit(job, head, changed, calibration, card.temperature, params.abstention)
    model_folder.save(Path("models"), job.network, card, rule)
    return examples.ids_of(calibration.rows)


def answer(clean: Path, ids: list[str]) -> tuple[Outputs, list[str]]:
    """What models/ computes of images, and their classes."""
    classifier, columns = Classifier(Path("models")), ["id", "label", "bytes"]
    rows = {row["id"]: row for row in shards.columns(clean, columns).to_pylist()}
    views = [classifier.view(decoding.decode(rows[key]["bytes"])) for key in ids]
    outputs = join([classifier.compute(view[None]) for view in views])
    return outputs, [rows[key]["label"] for key in ids]


@OF_TORCH
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_so_many_calibration_images_are_covered_and_near(
    dataset: Path, params: Params, head: str
) -> None:
    changed = override(
        params,
        **NARROW_RESNET,
        head__kind=head,
        abstention__share=0.5,
        abstention__coverage=0.6,
        abstention__false_alarms=0.3,
    )
    ids = train_abstaining(dataset, changed)
    outputs, labels = answer(dataset / "clean", ids)
    card = model_folder.read_card(Path("models"))
    assert card.abstention is not None
    assert card.abstention.images == card.abstention.groups == len(ids) == 8
    assert outputs.sets is not None
    assert outputs.are_far is not None
    own = torch.tensor([card.classes.index(label) for label in labels])
    of_labels = outputs.probabilities.gather(1, own[:, None])[:, 0].sort(descending=True).values
    assert card.abstention.least_probability == pytest.approx(float(of_labels[5]), abs=1e-5)
    assert outputs.sets.gather(1, own[:, None]).sum() >= 5  # the sixth is at the threshold
    assert int(outputs.are_far.sum()) in {1, 2}  # likewise


@OF_TORCH
def test_too_few_images_promise_all_classes_and_no_distance(dataset: Path, params: Params) -> None:
    changed = override(params, **NARROW_RESNET, train__epochs=1, abstention__share=0.5)
    ids = train_abstaining(dataset, changed)
    outputs, _ = answer(dataset / "clean", ids)
    assert outputs.sets is not None
    assert outputs.are_far is not None
    assert outputs.sets.all()
    assert not outputs.are_far.any()


@OF_TORCH
def test_without_images_set_aside_nothing_is_promised(dataset: Path, params: Params) -> None:
    assert not train_abstaining(dataset, override(params, **NARROW_RESNET, train__epochs=1))
    assert model_folder.read_card(Path("models")).abstention is None
