"""Features, training jobs and models, built in this process."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from pipeline.core import atomic
from pipeline.core.history import Record
from pipeline.network import backbones, device, feature_store, heads, model_folder
from pipeline.network.examples import Examples, read_examples
from pipeline.network.model_folder import Card
from pipeline.params import HeadParams, Params
from pipeline.stages.features import compute, feature_files
from pipeline.stages.features.compute import FeatureSettings
from pipeline.stages.train import loop, setup
from pipeline.stages.train.state import Job

LINEAR_HEAD = HeadParams(kind="linear", hidden=8, dropout=0.5, one_logit=False)


def compute_features(dataset: Path, params: Params, name: str = "features") -> Path:
    """Compute features as the stage does, from the data in the working directory."""
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    prefix = compute.frozen_prefix(params)
    index = compute.describe(params, prefix, examples)
    with atomic.replacing(dataset / name) as staged:
        staged.mkdir()
        feature_store.write_index(staged, index)
        if index.stored:
            settings = FeatureSettings(prefix, params.images, index)
            clean, split_csv = dataset / "clean", dataset / "split.csv"
            feature_files.store(staged, clean, split_csv, settings, examples)
    return dataset / name


def prepare_job(dataset: Path, params: Params) -> tuple[Job, Card, Examples]:
    """Compute features and prepare a training job on them."""
    folder = compute_features(dataset, params)
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    assembled = setup.assemble(params, len(examples.classes))
    fabric = device.start(params.device)
    job = setup.prepare(params, assembled, examples, folder, dataset / "clean", fabric)
    digest = setup.fingerprint(params, examples, job)
    card = setup.make_card(params, assembled, examples, job.index.engine, digest, 1.0)
    return job, card, examples


def train_job(dataset: Path, params: Params) -> tuple[Job, Card, list[Record]]:
    """Prepare a job as `prepare_job` does, and train it."""
    job, card, examples = prepare_job(dataset, params)
    return job, card, list(loop.fit(job, examples, params.train))


def save_untrained(
    folder: Path, name: str, head: HeadParams, replaced: str | None, size: int
) -> Card:
    """A model folder with random weights for two classes; the head replaces a layer or the last."""
    options = {"aux_logits": False, "transform_input": True} if name == "googlenet" else {}
    backbone = backbones.blank(name, options, size, seed=3)
    end = replaced or backbone.last
    heads.replace(backbone.network, end, head, 2, size, seed=4)
    card = Card(
        backbone=name,
        options=options,
        head=head,
        replaced=end,
        trained_from=end,
        classes=["ant", "bee"],
        max_megapixels=50,
        store_side=400,
        temperature=1.7,
        preprocess=backbone.usual.model_copy(update={"size": size, "resize": size + 8}),
        fingerprint="f",
    )
    model_folder.save(folder, backbone.network, card)
    return card


def scale_head(folder: Path, factor: float) -> None:
    """Multiply a model's head; 3e38 leaves the weights finite, but not the scores."""
    path, replaced = folder / "model.safetensors", model_folder.read_card(folder).replaced
    state = load_file(path)
    head = {
        name: value.sign() * factor
        for name, value in state.items()
        if name.startswith(f"{replaced}.")
    }
    save_file(state | head, path)
