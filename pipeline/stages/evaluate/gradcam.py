"""Where the network looks: Grad-CAM, by captum."""

import copy
import re
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.images.decoding import Pixels
from pipeline.network import device
from pipeline.network.model_folder import Card

ATTENTION = re.compile("attn|attention")  # whose maps are of tokens by tokens
SHARE = 0.5  # of the map, where it is laid over the image


class Explainer:
    """Grad-CAM of a network at its last map, the last layer whose output has places.

    Source: R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks" (2017).
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        where = list(network.parameters())[-1].device  # of a network in halves, that of the last
        # A copy, for others may run it while captum listens to it.
        network = copy.deepcopy(network).to(where).eval()
        self._network = network
        self._preprocess = card.preprocess
        self.layer = last_map(network, card.preprocess.size)
        self._cam: Any = LayerGradCam(network, network.get_submodule(self.layer))

    def heat(self, views: Tensor, classes: Sequence[int]) -> Tensor:
        """What speaks for a class in each view: uint8 (B, 3, S, S) -> (B, S, S) in 0..1."""
        where = next(self._network.parameters()).device
        images = self._preprocess.normalise(views.to(where)).requires_grad_()
        # On one thread, so that pictures do not depend on how many there are.
        with device.one_thread_each(), torch.enable_grad():
            found = self._cam.attribute(
                images, torch.tensor(list(classes), device=where), relu_attributions=True
            )
        side = [self._preprocess.size] * 2
        heat: Tensor = LayerAttribution.interpolate(found, side, "bilinear")[:, 0].detach().cpu()
        return heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


@torch.no_grad()
def last_map(network: nn.Module, size: int) -> str:
    """The name of the last module that gives a map, (B, C, S, S), with more than one place.

    Raises:
        PipelineError: none does, but for those with which a transformer begins.
    """
    seen: list[tuple[str, bool]] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: seen.append((name, _has_places(output)))
        )
        for name, module in network.named_modules()
        if name and not ATTENTION.search(name)
    ]
    try:
        where = next(network.parameters()).device
        network.eval()(torch.zeros(1, 3, size, size, device=where))
    finally:
        for handle in handles:
            handle.remove()
    maps = [place for place, (_, is_map) in enumerate(seen) if is_map]
    if not maps or maps[-1] < (len(seen) - 1) / 2:
        raise PipelineError(
            "Grad-CAM needs a network that keeps a map of the image to its last layers, and this "
            "one does not: it is drawn for convolutional networks"
        )
    return seen[maps[-1]][0]


def _has_places(output: object) -> bool:
    if not isinstance(output, Tensor) or output.dim() != 4:
        return False
    height, width = output.shape[2:]
    return height == width > 1  # as images are; tokens, or channels that come last, are not


def overlay(view: Tensor, heat: Tensor) -> Pixels:
    """(S, S, 3) A view, uint8 (3, S, S), under its map (S, S): from blue, nothing, to red."""
    colours = cv2.applyColorMap((heat.numpy() * 255).astype(np.uint8), cv2.COLORMAP_JET)
    image = view.permute(1, 2, 0).numpy()
    mixed = (1 - SHARE) * image + SHARE * colours[:, :, ::-1]
    return mixed.round().astype(np.uint8)
