import os
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import hub

from pipeline.core.errors import PipelineError
from pipeline.network import torchvision_models, weights


@pytest.fixture(autouse=True)
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints"


def test_mobilenets_weights_are_put_where_torch_hub_looks(hub_folder: Path) -> None:
    enum = weights.imagenet("mobilenet_v2")
    assert enum.url.endswith("mobilenet_v2-b0353104.pth")
    assert [path.name for path in hub_folder.iterdir()] == ["mobilenet_v2-b0353104.pth"]


def test_a_damaged_file_is_not_used(hub_folder: Path) -> None:
    hub_folder.mkdir(parents=True)
    (hub_folder / "mobilenet_v2-b0353104.pth").write_bytes(b"rubbish")
    with pytest.raises(PipelineError, match="is damaged: its sha256 does not start with b0353104"):
        weights.imagenet("mobilenet_v2")


def test_without_a_network_the_sentence_says_which_file_goes_where(
    hub_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(hub, "download_url_to_file", unreachable)
    with pytest.raises(PipelineError) as error:
        weights.imagenet("resnet18")
    for part in ("resnet18-f37072fd.pth", str(hub_folder), "model.weights=none", "mobilenet_v2"):
        assert part in str(error.value)
    assert not list(hub_folder.glob("*"))


@pytest.mark.parametrize("name", ["state.pth", "state.safetensors"])
def test_a_state_dict_is_read(tmp_path: Path, name: str) -> None:
    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / name) if "safe" in name else torch.save(state, tmp_path / name)
    assert torch.equal(weights.read(tmp_path / name)["a"], state["a"])


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("owned"),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"a": Exploit()}))
    with pytest.raises(PipelineError, match="nor a checkpoint of tensors"):
        weights.read(path)
    assert not (tmp_path / "owned").exists()


class Rebuilt:
    """Unpickled by a call of torch's function that makes a tensor."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


def without_its_storage() -> bytes:
    """A checkpoint in torch's older format, of no tensor but a storage."""
    parts: list[object] = [torch.serialization.MAGIC_NUMBER, 1001, {}, {}, ["0"]]
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("SafetensorError.safetensors", b""),
        ("RuntimeError", b"PK\3\4"),
        ("EOFError", b""),
        ("UnicodeDecodeError", b"\x80\x02X\1\0\0\0\x91."),
        ("KeyError", b"hello"),
        ("IndexError", b"\x80"),
        ("error", b"\x80\x02X\0"),
        ("TypeError", pickle.dumps(Rebuilt(), protocol=2)),
        ("AttributeError", pickle.dumps(Rebuilt((), 0, (), (), False, {}), protocol=2)),
        ("AssertionError", without_its_storage()),
    ],
)
def test_whatever_the_readers_raise_for_a_damaged_file_it_is_refused(
    tmp_path: Path, name: str, data: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PipelineError, match=r"nor a checkpoint of tensors$") as error:
        weights.read(path)
    assert type(error.value.__cause__).__name__ == path.stem


def test_torchvision_loads_tensors_only_and_the_environment_stays(
    hub_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hub_folder.parents[2])
    monkeypatch.delenv(weights.WEIGHTS_ONLY, raising=False)
    path = Path(weights.imagenet("mobilenet_v2").url).name
    (hub_folder / path).write_bytes(pickle.dumps({"a": Exploit()}, protocol=2))
    monkeypatch.setattr(weights, "sha256", lambda _: "b0353104")
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torchvision_models.pretrained("mobilenet_v2")
    assert not Path("owned").exists()
    assert weights.WEIGHTS_ONLY not in os.environ


def test_a_missing_file_and_a_file_of_something_else_have_their_own_errors(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is not a file: give imagenet, none"):
        weights.read(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(PipelineError, match="does not hold a state dict"):
        weights.read(tmp_path / "list.pth")


def test_the_digest_depends_on_values_and_names_and_not_on_order() -> None:
    zeros, ones = torch.zeros(2), torch.ones(2)
    assert weights.digest({"a": zeros, "b": ones}) == weights.digest({"b": ones, "a": zeros})
    assert weights.digest({"a": zeros, "b": ones}) != weights.digest({"a": ones, "b": zeros})
