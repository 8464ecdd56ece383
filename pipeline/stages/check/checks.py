"""The checks: does what params.yaml names exist, and can this machine do it?

All take far less than a second but those of networks, which import torch: these are left out if
the last training had the same params.
"""

from pathlib import Path

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.params import Params
from pipeline.stages.acquire.sources.source_path import check_source

KNOWN_WEIGHTS = ("imagenet", "none")
ANYWHERE = ("auto", "cpu")  # accelerators


def check(params: Params) -> None:
    """Check everything that a run of the whole pipeline needs.

    Raises:
        PipelineError: something is wrong that a later stage would stop at.
    """
    source = params.dataset.source
    expanded = check_source(Path("datasets", params.dataset.name), source)
    if expanded != source:
        raise PipelineError(
            f"dataset.source = {source!r}: DVC does not expand ~: write {expanded}, or use "
            "`pipeline run`, which expands it"
        )
    check_network(params)


def check_network(params: Params) -> None:
    """Check the network, its weights and the device.

    Raises:
        PipelineError: one of them does not exist here, or they do not fit together.
    """
    weights = params.model.weights
    if weights not in KNOWN_WEIGHTS and not Path(weights).is_file():
        raise PipelineError(
            f"model.weights = {weights!r} is no file: give the path of a .safetensors or .pth "
            "file, or imagenet, or none"
        )
    trained = dvc_lock.params(dvc_lock.read(), "train")
    values = params.model_dump(mode="json")
    has_trained = all(trained.get(name) == values[name] for name in ("model", "images", "device"))
    if not has_trained or params.device.accelerator not in ANYWHERE:
        _check_with_torch(params)


def _check_with_torch(params: Params) -> None:
    from pipeline.core import program

    with program.imports():
        from pipeline.network import assembly, device

    device.start(params.device)
    # Random weights: those of ImageNet may have to be downloaded.
    model = params.model.model_copy(update={"weights": "none"})
    assembled = assembly.assemble(model, params.images, params.features.seed)
    assembly.check_stored_size(assembled.preprocess, params.filter)
