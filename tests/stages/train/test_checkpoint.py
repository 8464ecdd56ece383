import os
import pickle
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.core import atomic
from pipeline.network import tensors
from pipeline.stages.train import checkpoint
from pipeline.stages.train.checkpoint import Checkpoint, CheckpointState

TENSORS: dict[str, Tensor] = {
    "model.0.weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "order": torch.Generator().get_state(),
    "count": torch.tensor(3),
}
FACTS = {"epoch": 3, "lowest": float("inf"), "rate": 0.1 + 0.2, "groups": [{"lr": 1e-3}]}


def path_of(root: Path, fingerprint: str = "run") -> Path:
    return root / ".cache/train" / fingerprint / checkpoint.FILE


def test_the_last_state_is_loaded_bit_for_bit(root: Path) -> None:
    Checkpoint("run").save(CheckpointState({}, {"epoch": 1}))
    Checkpoint("run").save(CheckpointState(TENSORS, FACTS))
    state = Checkpoint("run").load()
    assert state is not None
    assert state.facts == FACTS
    assert state.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(state.tensors[key], TENSORS[key]) for key in TENSORS)


def test_epochs_of_milliseconds_are_not_slowed_down_by_syncs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, now, of_run = [], [100.0], Checkpoint("run")
    monkeypatch.setattr(atomic, "sync", lambda _: synced.append(now[0]))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for _ in range(30):
        of_run.save(CheckpointState({}, {}))
        now[0] += 1
    assert synced == [100, 106, 112, 118, 124]


def test_tensors_that_share_memory_can_be_saved(root: Path) -> None:
    shared = torch.arange(6.0)
    Checkpoint("run").save(
        CheckpointState({"model.a": shared, "best.a": shared, "part": shared[2:]}, {})
    )
    state = Checkpoint("run").load()
    assert state is not None
    assert torch.equal(state.tensors["part"], shared[2:])


def test_another_run_has_its_own_checkpoint(root: Path) -> None:
    Checkpoint("run").save(CheckpointState(TENSORS, FACTS))
    assert Checkpoint("other").load() is None


def test_a_removed_checkpoint_is_gone(root: Path) -> None:
    of_run = Checkpoint("run")
    of_run.save(CheckpointState(TENSORS, FACTS))
    of_run.remove()
    assert of_run.load() is None
    assert not path_of(root).parent.exists()
    of_run.remove()  # again: nothing happens


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def damaged_files(root: Path) -> dict[str, bytes]:
    Checkpoint("whole").save(CheckpointState(TENSORS, FACTS))
    whole = path_of(root, "whole").read_bytes()
    foreign = {"weight": torch.ones(3)}
    save_file(foreign, root / "foreign")
    save_file(foreign, root / "no json", {tensors.NOTE: "{"})
    return {
        "nothing": b"",
        "garbage": b"\xff" * 1000,
        "half of it": whole[: len(whole) // 2],
        "a pickle": pickle.dumps(Bomb()),
        "only tensors": (root / "foreign").read_bytes(),
        "facts without JSON": (root / "no json").read_bytes(),
        "a zeroed page": whole[:-600] + bytes(600),
        "one other bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "other facts": whole.replace(b'epoch\\": 3', b'epoch\\": 4'),
    }


def test_damaged_or_foreign_files_are_removed_with_a_warning_and_never_unpickled(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    for name, data in damaged_files(root).items():
        assert data != path_of(root, "whole").read_bytes(), name
        path_of(root).parent.mkdir()
        path_of(root).write_bytes(data)
        assert Checkpoint("run").load() is None, name
        assert not path_of(root).exists(), name
        assert capsys.readouterr().err == (
            f"warning: the checkpoint {path_of(root)} is damaged: the training begins again\n"
        )
    torch.save(Bomb(), root / "pickled.pt")
    path_of(root).parent.mkdir()
    path_of(root).write_bytes((root / "pickled.pt").read_bytes())
    assert Checkpoint("run").load() is None
    assert not Path("exploded").exists()


def test_an_interrupted_save_leaves_the_state_before(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_run = Checkpoint("run")
    of_run.save(CheckpointState(TENSORS, {"epoch": 1}))

    def half(tensors: object, path: Path, facts: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tensors, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        of_run.save(CheckpointState(TENSORS, {"epoch": 2}))
    state = of_run.load()
    assert state is not None
    assert state.facts == {"epoch": 1}
    assert [path.name for path in path_of(root).parent.iterdir()] == [checkpoint.FILE]


def test_checkpoints_of_trainings_that_never_ended_are_pruned_oldest_first(root: Path) -> None:
    for number in range(checkpoint.MAX_CHECKPOINTS + 2):
        Checkpoint(str(number)).save(CheckpointState({}, {}))
        os.utime(path_of(root, str(number)).parent, (number, number))
    Checkpoint("last").save(CheckpointState({}, {}))
    left = {path.name for path in (root / ".cache/train").iterdir()}
    assert left == {"last", *(str(number) for number in range(3, checkpoint.MAX_CHECKPOINTS + 2))}


def test_checkpoints_of_the_last_hour_are_never_pruned(root: Path) -> None:
    for number in range(checkpoint.MAX_CHECKPOINTS + 3):
        Checkpoint(str(number)).save(CheckpointState({}, {}))
    assert len(list((root / ".cache/train").iterdir())) == checkpoint.MAX_CHECKPOINTS + 3
