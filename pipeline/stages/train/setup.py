"""Set up a training: network, inputs and device; shared by stage train and `pipeline sweep`."""

from pathlib import Path

import torch
from lightning_fabric import Fabric

from pipeline.images import decoder_versions, memo
from pipeline.network import assembly, calibration, feature_store, scoring, weights
from pipeline.network.assembly import Assembly, NewHead
from pipeline.network.examples import Examples, digest_lines
from pipeline.network.halves import Halves
from pipeline.network.model_folder import Card, Solution
from pipeline.params import Params
from pipeline.stages.train.state import Job

# Of a training; their imports count too.
MODULES = [
    __name__,
    "pipeline.stages.train.loop",
    "pipeline.stages.train.solved_head",
    "pipeline.stages.train.abstention",
]
MAX_SCORES = 2**26  # to calibrate with: images times classes, 256 MiB
# Of params.
SECTIONS = ("filter", "images", "model", "features", "head", "train", "abstention", "device")
LIBRARIES = [
    *decoder_versions.LIBRARIES,
    "torch",
    "torchvision",
    "lightning-fabric",
    "timm",
    "scipy",
]


def assemble(params: Params, classes: int) -> Assembly:
    """Build the network with a new head, and cut it."""
    head = NewHead(params.head, classes, params.train.seed)
    assembled = assembly.assemble(params.model, params.images, params.features.seed, head)
    assembly.check_stored_size(assembled.preprocess, params.filter)
    return assembled


def prepare(
    params: Params,
    assembled: Assembly,
    examples: Examples,
    features: Path,
    clean: Path,
    fabric: Fabric,
) -> Job:
    """Open the suffix's inputs, and move the suffix to its device."""
    index = feature_store.read_index(features)
    halves = Halves(
        assembled.cut,
        assembled.preprocess,
        fabric,
        index.precision,
        index.dtype,
        params.device.compile,
        engine=index.engine,
    )
    source = feature_store.open_source(features, clean, params.images, examples, halves.prefix)
    network = assembled.network
    new = set(network.get_submodule(assembled.replaced).parameters())
    pretrained = set(network.parameters()) - new if assembled.backbone.pretrained else set()
    return Job(
        network,
        halves.suffix,
        frozenset(pretrained),
        source,
        index,
        fabric,
        params.device.compile,
    )


def calibrate(job: Job, examples: Examples) -> float:
    """The temperature that fits the probabilities of the validation set best.

    Of a set with more than `MAX_SCORES` scores the first images are used: as ids are hashes, they
    are a random sample.
    """
    rows = examples.rows("val")
    rows = rows[: max(1, MAX_SCORES // len(examples.classes))]
    with job.fabric.autocast():
        scores = scoring.logits(job.suffix, job.source, rows)
    return calibration.fit_temperature(scores.float().numpy(), examples.labels[rows].numpy())


def make_card(
    params: Params,
    assembled: Assembly,
    examples: Examples,
    engine: str,
    fingerprint: str,
    temperature: float,
    deviation: str = "",
    solution: Solution | None = None,
) -> Card:
    """Everything about the network that prediction needs, except its weights.

    Args:
        engine: What computed the features, as Index.engine.
        deviation: That of the clean shards.
        solution: Of a solved head.
    """
    return Card(
        backbone=assembled.backbone.name,
        options=assembled.backbone.options,
        head=params.head,
        replaced=assembled.replaced,
        trained_from=assembled.trained_from,
        classes=examples.classes,
        max_megapixels=params.filter.max_megapixels,
        store_side=params.filter.store_side,
        preprocess=assembled.preprocess,
        precision=params.features.precision,
        engine=engine,
        temperature=temperature,
        solution=solution,
        fingerprint=fingerprint,
        deviation=deviation,
    )


def fingerprint(params: Params, examples: Examples, job: Job) -> str:
    """Digest of everything that decides the bytes of the model; call it before the training."""
    sections = {name: getattr(params, name).model_dump() for name in SECTIONS}
    # The bytes follow from the number of processes, not from their machines.
    sections["device"]["devices"] *= sections["device"].pop("nodes")
    values = sections | {
        "examples": digest_lines(map(str, examples.facts())),
        "features": job.index.model_dump(),
        "threads": torch.get_num_threads(),
        "device_type": job.fabric.device.type,
        "weights": weights.digest(job.network.state_dict()),  # model.weights is only a path
    }
    return memo.fingerprint(values, MODULES, LIBRARIES)
