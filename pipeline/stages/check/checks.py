"""The checks: does what params.yaml names exist, and can this machine do it?

What the last run had is not checked again: it worked, and its source may be gone since. Checks of
networks and devices import torch; the others take far less than a second.
"""

from pathlib import Path

from pipeline.core import dvc_lock, program, terminal
from pipeline.core.addresses import is_url
from pipeline.core.errors import PipelineError
from pipeline.datasets.source_path import check_source
from pipeline.params import AS_DESCRIBED, Params
from pipeline.stages.check import git_head
from pipeline.stages.check.special_files import check_special_files

KNOWN_WEIGHTS = ("imagenet", "none")
NETWORK = ("model", "images", "filter")  # the sections of params that decide whether it works


def check(params: Params) -> None:
    """Check everything that a run of the whole pipeline needs; warn of a HEAD on no branch.

    Raises:
        PipelineError: something is wrong that a later stage would stop at.
    """
    if not _is_unchanged(params, "acquire", "dataset"):
        source = params.dataset.source
        expanded = check_source(Path("datasets", params.dataset.name), source)
        if expanded != source:
            raise PipelineError(
                f"dataset.source = {source!r}: DVC does not expand ~: write {expanded}, or use "
                "`pipeline run`, which expands it"
            )
        if source != AS_DESCRIBED and not is_url(source):
            check_special_files(Path(source))
    check_network(params)
    if branch := git_head.abandoned_branch():
        terminal.warn(
            "git's HEAD is on no branch, as a killed `dvc exp run` leaves it: `git switch -C "
            f"{branch}` returns to {branch} with all that has changed since"
        )


def check_network(params: Params) -> None:
    """Check the network and its weights; warn of a device that this machine lacks.

    The stages that read the data need no device, and may run on another machine.

    Raises:
        PipelineError: one of them does not exist, or they do not fit together.
    """
    if not _is_unchanged(params, "train", *NETWORK):
        _check_network(params)
    if not _is_unchanged(params, "train", "device"):
        _check_device(params)


def _is_unchanged(params: Params, stage: str, *sections: str) -> bool:
    """Whether a stage last ran with the same values."""
    last = dvc_lock.params(dvc_lock.read(), stage)
    values = params.model_dump(mode="json")
    return all(last.get(name) == values[name] for name in sections)


def _check_network(params: Params) -> None:
    weights = params.model.weights
    if weights not in KNOWN_WEIGHTS and not Path(weights).is_file():
        raise PipelineError(
            f"model.weights = {weights!r} is not a file: give the path of a .safetensors or "
            ".pth file, or imagenet, or none"
        )
    with program.imports():
        from pipeline.network import assembly, backbones

    backbones.check_weights(params.model)
    # Random weights: those of ImageNet may have to be downloaded.
    model = params.model.model_copy(update={"weights": "none"})
    assembled = assembly.assemble(model, params.images, params.features.seed)
    assembly.check_stored_size(assembled.preprocess, params.filter)


def _check_device(params: Params) -> None:
    with program.imports():
        from pipeline.network import device

    try:
        device.start(params.device)
    except PipelineError as error:
        terminal.warn(f"{error}; the stages features, train and evaluate need it")
