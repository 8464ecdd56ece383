"""Grad-CAM: which areas of an image speak for a class."""

import copy
import re
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.errors import PipelineError
from pipeline.images.pixels import Pixels
from pipeline.network import device
from pipeline.network.model_folder import Card

ATTENTION = re.compile("attn|attention")  # their 4-D outputs are tokens by tokens
OPACITY = 0.5  # of the heatmap over the image


class Explainer:
    """Grad-CAM of a network at its last feature map.

    Source: R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks" (2017).
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        # The halves of a cut network may be on two devices.
        target = list(network.parameters())[-1].device
        # A copy: others may be running the original, and `_run` adds a hook.
        network = copy.deepcopy(network).to(target).eval().requires_grad_(False)
        self._network = network
        self._preprocess = card.preprocess
        self._layer = network.get_submodule(last_feature_map(network, card.preprocess.size))

    def heat(self, views: Tensor, classes: Sequence[int]) -> Tensor:
        """Heatmaps, (B, S, S) in 0..1, of a class for each view, uint8 (B, 3, S, S)."""
        target = next(self._network.parameters()).device
        images = self._preprocess.normalise(views.to(target))
        # On one thread: the result does not depend on the number of cores.
        with device.one_thread_each(), torch.enable_grad():
            coarse = self._attribute(images, torch.tensor(list(classes), device=target))
        side = [self._preprocess.size] * 2
        heat = functional.interpolate(coarse, side, mode="bilinear")[:, 0].detach().cpu()
        heat = heat.nan_to_num(nan=0, posinf=0)  # gradients of huge weights overflow
        return heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)

    def _attribute(self, images: Tensor, classes: Tensor) -> Tensor:
        """(B, 1, H, W) The positive part of the sum of the channels, each by its mean gradient."""
        scores, feature_map = self._run(images)
        of_classes = scores.gather(1, classes[:, None])
        (gradient,) = torch.autograd.grad(of_classes.sum(), feature_map)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return functional.relu((weights * feature_map).sum(dim=1, keepdim=True))

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, (B, C), and the feature map, (B, F, H, W), where their gradient starts."""
        feature_maps: list[Tensor] = []

        def branch(_: nn.Module, __: object, output: Tensor) -> Tensor:
            feature_maps.append(output.detach().requires_grad_())
            return feature_maps[-1].clone()  # what follows may change it in place

        handle = self._layer.register_forward_hook(branch)
        try:
            scores: Tensor = self._network(images)
        finally:
            handle.remove()
        return scores, feature_maps[-1]


@torch.no_grad()
def last_feature_map(network: nn.Module, size: int) -> str:
    """The name of the last module with a feature map, (B, C, S, S), of more than one pixel.

    Raises:
        PipelineError: there is none, or none but the first layers of a transformer.
    """
    outputs: list[tuple[str, bool]] = []
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: outputs.append((name, _is_feature_map(output)))
        )
        for name, module in network.named_modules()
        if name and not ATTENTION.search(name)
    ]
    try:
        target = next(network.parameters()).device
        network.eval()(torch.zeros(1, 3, size, size, device=target))
    finally:
        for handle in handles:
            handle.remove()
    maps = [number for number, (_, is_map) in enumerate(outputs) if is_map]
    if not maps or maps[-1] < (len(outputs) - 1) / 2:
        raise PipelineError(
            "Grad-CAM needs a convolutional network: this one has no feature maps in its last "
            "layers"
        )
    return outputs[maps[-1]][0]


def _is_feature_map(output: object) -> bool:
    if not isinstance(output, Tensor) or output.dim() != 4:
        return False
    height, width = output.shape[2:]
    return height == width > 1  # square, unlike tokens and channels-last outputs


def overlay(view: Tensor, heat: Tensor) -> Pixels:
    """(S, S, 3) A view, uint8 (3, S, S), with its heatmap (S, S), from blue (0) to red (1)."""
    colours = cv2.applyColorMap((heat.numpy() * 255).astype(np.uint8), cv2.COLORMAP_JET)
    image = view.permute(1, 2, 0).numpy()
    blended = (1 - OPACITY) * image + OPACITY * colours[:, :, ::-1]
    return blended.round().astype(np.uint8)
