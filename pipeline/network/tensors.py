"""Tensors on disk, as safetensors: no pickles."""

import errno
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

NOTE = "note"  # the only key of the metadata: safetensors writes several in random order


def write(path: Path, state: Mapping[str, Tensor], note: str | None = None) -> None:
    """Write tensors by name, of any device and memory format, and a note.

    Raises:
        OSError: the disk is full, or the like.
    """
    try:
        save_file(_independent(state), path, None if note is None else {NOTE: note})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error
    path.chmod(0o644)  # safetensors lets only the owner read it


def _independent(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, contiguous on the CPU; tied weights are copied, as safetensors refuses them."""
    tensors: dict[str, Tensor] = {}
    pointers: set[int] = set()
    for name, value in state.items():
        own = value.detach().cpu().contiguous()
        if own.untyped_storage().data_ptr() in pointers:
            own = own.clone()
        pointers.add(own.untyped_storage().data_ptr())
        tensors[name] = own
    return tensors
