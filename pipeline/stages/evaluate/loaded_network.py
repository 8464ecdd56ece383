"""A trained network on its device, before it has inputs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from pipeline.network import device, feature_store, model_folder
from pipeline.network.evaluated_suffix import EvaluatedSuffix
from pipeline.network.feature_store import Index
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves, cut_as_trained
from pipeline.network.model_folder import Card
from pipeline.params import DeviceParams


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network in two halves."""

    network: nn.Module
    card: Card
    index: Index
    """Of the features that it was trained on."""
    prefix: FrozenPrefix
    trained: nn.Module
    """The part of the network that was trained."""
    precision: str
    """Of `trained`, as device.precision."""

    @property
    def head(self) -> nn.Module:
        return self.network.get_submodule(self.card.replaced)

    @cached_property
    def evaluated(self) -> EvaluatedSuffix:
        """`trained` as a pure function of each image."""
        return EvaluatedSuffix(self.trained, self.head, self.prefix.sub_batch)

    @cached_property
    def scoring(self) -> FrozenPrefix:
        """Views, uint8 (B, 3, S, S) -> scores and inputs of the last layer."""
        return self.prefix.followed_by(self.evaluated)


def load_network(models: Path, features: Path, params: DeviceParams) -> LoadedNetwork:
    """Load the network of the folder `models`."""
    network, card = model_folder.load(models)
    fabric = device.start(params, alone=True)
    index = feature_store.read_index(features)
    halves = Halves(
        cut_as_trained(network, card),
        card.preprocess,
        fabric,
        index.precision,
        index.dtype,
        params.compile,
        all_gpus=True,
        engine=index.engine,
    )
    trained = fabric.setup_module(halves.suffix)
    return LoadedNetwork(network, card, index, halves.prefix, trained, params.precision)
