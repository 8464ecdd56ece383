"""Tensors on disk: safetensors, so that nothing is ever unpickled."""

import errno
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

NOTE = "note"  # the one key of the file's metadata: several would come in an order of their own


def write(path: Path, state: Mapping[str, Tensor], note: str | None = None) -> None:
    """Write tensors by name, of any device and memory format, and what else the file is to say.

    Raises:
        OSError: the disk is full, or the like.
    """
    try:
        save_file(_apart(state), path, None if note is None else {NOTE: note})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
    path.chmod(0o644)  # safetensors makes it its owner's alone; a model is handed on


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous on the CPU; those that share memory, as tied weights do, in copies."""
    plain: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in state.items():
        own = value.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in places:
            own = own.clone()
        places.add(own.untyped_storage().data_ptr())
        plain[name] = own
    return plain
