"""The two halves of a cut network on a device, ready to compute."""

from functools import cached_property
from pathlib import Path

from lightning_fabric import Fabric
from torch import nn

from pipeline.network import model_folder
from pipeline.network.cut import Cut, cut
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.inference_devices import inference_devices
from pipeline.network.memory_format import channels_last
from pipeline.network.model_folder import Card
from pipeline.network.views import Preprocess


class Halves:
    """`prefix`: views, uint8 (B, 3, S, S) -> the suffix's inputs; `suffix`: those -> logits."""

    def __init__(
        self,
        network_cut: Cut,
        preprocess: Preprocess,
        fabric: Fabric,
        precision: str,
        dtype: str,
        compiled: bool = False,
        all_gpus: bool = False,
        engine: str | None = None,
        padded: bool = True,
    ) -> None:
        """
        Args:
            precision: As features.precision: what the prefix computes in.
            dtype: As features.dtype: what its outputs are rounded to.
            compiled: Whether torch.compile translates the prefix.
            all_gpus: Whether the prefix uses all GPUs of the machine that are of the first one's
                type, whatever `device.devices` is.
            engine: The name of the engine that computed the features, None for the fastest.
            padded: See FrozenPrefix.
        """
        devices = inference_devices(fabric.device) if all_gpus else [fabric.device]
        self.prefix = FrozenPrefix(
            network_cut, preprocess, devices, precision, dtype, compiled, engine, padded
        )

    @cached_property
    def suffix(self) -> nn.Module:
        """On the device; its convolutions' weights are channels-last, as its inputs are."""
        return channels_last(self.prefix.cut.suffix.to(self.prefix.device))


def load_trained_part(models: Path) -> nn.Module:
    """The part of a saved network that was trained."""
    network, card = model_folder.load(models)
    return cut_as_trained(network, card).suffix


def cut_as_trained(network: nn.Module, card: Card) -> Cut:
    """Cut the network of a model folder where its training began."""
    return cut(network, card.trained_from, card.preprocess.size)
