"""The trained part of a network, as a pure function of each image."""

import copy
import threading
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.network.loading.parallel_forward import Tensors

_CAPTURED = threading.local()  # inputs of the last layer, by thread: cores run the suffix together


class EvaluatedSuffix:
    """Tensors (B, ...) -> scores, float32 (B, C), and inputs of the last layer, float32 (B, F).

    As in the frozen prefix, an image's values depend neither on the other images nor on the number
    of threads: batches are padded to `sub_batch` images, and each is computed on one thread.
    """

    def __init__(self, suffix: nn.Module, head: nn.Module, sub_batch: int) -> None:
        """`head` is the part of the suffix that has the last layer."""
        self._suffix, self._sub_batch = suffix.eval(), sub_batch
        last = last_layer(head)
        self.classes = last.weight.shape[0]
        self.width = last.weight.shape[1]
        """Number of inputs of the last layer."""
        capture_inputs(head)

    def __call__(self, values: Tensors) -> Tensors:
        count = len(values[0])
        scores: Tensor = self._suffix(*(self._pad(value) for value in values))
        return scores[:count].float(), captured_inputs()[:count]

    def _pad(self, value: Tensor) -> Tensor:
        lacking = max(0, self._sub_batch - len(value))
        return torch.cat([value, value.new_zeros(lacking, *value.shape[1:])])

    def on(self, where: torch.device) -> "EvaluatedSuffix":
        """The same on another device; the copy's last layer has the hook too."""
        twin = copy.copy(self)
        twin._suffix = copy.deepcopy(self._suffix).to(where)
        return twin


def last_layer(head: nn.Module) -> nn.Linear | nn.Conv2d:
    """The last linear or convolution layer."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]


def pool(inputs: Tensor) -> Tensor:
    """(B, F) Inputs of the last layer, float32; maps of features are averaged over the image."""
    return (inputs.mean(dim=(2, 3)) if inputs.dim() == 4 else inputs).float()


def capture_inputs(head: nn.Module) -> None:
    """Have each forward pass leave the inputs of the head's last layer for `captured_inputs`."""
    last_layer(head).register_forward_pre_hook(_capture)


def captured_inputs() -> Tensor:
    """(B, F) Inputs of the last layer in this thread's last forward pass, float32."""
    return pool(_CAPTURED.inputs)


def _capture(_: nn.Module, inputs: tuple[Any, ...]) -> None:
    _CAPTURED.inputs = inputs[0].detach()
