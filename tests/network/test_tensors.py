from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.network import tensors


def test_any_memory_format_and_tied_weights_can_be_written(tmp_path: Path) -> None:
    tied = torch.rand(3, 2)
    image = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = {"one": tied, "same": tied, "turned": tied.T, "image": image, "empty": torch.zeros(0)}
    tensors.write(tmp_path / "t.safetensors", state)
    loaded = load_file(tmp_path / "t.safetensors")
    assert loaded.keys() == state.keys()
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == 0o644
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_a_failed_write_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        tensors.write(tmp_path / "absent/t.safetensors", {"one": torch.zeros(10)})
