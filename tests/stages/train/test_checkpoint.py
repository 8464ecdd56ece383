import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.network import tensors
from pipeline.stages.train import checkpoint
from pipeline.stages.train.checkpoint import Checkpoint, CheckpointState

TENSORS: dict[str, Tensor] = {
    "model.0.weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "order": torch.Generator().get_state(),
    "count": torch.tensor(3),
}
FACTS = {"epoch": 3, "lowest": float("inf"), "rate": 0.1 + 0.2, "groups": [{"lr": 1e-3}]}


def place(root: Path, fingerprint: str = "run") -> Path:
    return root / ".cache/train" / fingerprint / checkpoint.FILE


def test_what_was_saved_last_is_loaded_bit_by_bit(root: Path) -> None:
    Checkpoint("run").save(CheckpointState({}, {"epoch": 1}))
    Checkpoint("run").save(CheckpointState(TENSORS, FACTS))
    found = Checkpoint("run").load()
    assert found is not None
    assert found.facts == FACTS
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[key], TENSORS[key]) for key in TENSORS)


def test_tensors_that_share_their_memory_are_saved_too(root: Path) -> None:
    shared = torch.arange(6.0)
    Checkpoint("run").save(
        CheckpointState({"model.a": shared, "best.a": shared, "part": shared[2:]}, {})
    )
    found = Checkpoint("run").load()
    assert found is not None
    assert torch.equal(found.tensors["part"], shared[2:])


def test_another_run_has_a_place_of_its_own(root: Path) -> None:
    Checkpoint("run").save(CheckpointState(TENSORS, FACTS))
    assert Checkpoint("other").load() is None


def test_what_is_removed_is_gone(root: Path) -> None:
    saved = Checkpoint("run")
    saved.save(CheckpointState(TENSORS, FACTS))
    saved.remove()
    assert saved.load() is None
    assert not place(root).parent.exists()
    saved.remove()  # of nothing is nothing


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def damaged(root: Path) -> dict[str, bytes]:
    Checkpoint("whole").save(CheckpointState(TENSORS, FACTS))
    whole = place(root, "whole").read_bytes()
    foreign = {"weight": torch.ones(3)}
    save_file(foreign, root / "foreign")
    save_file(foreign, root / "no json", {tensors.NOTE: "{"})
    return {
        "nothing": b"",
        "garbage": b"\xff" * 1000,
        "half of it": whole[: len(whole) // 2],
        "a pickle": pickle.dumps(Bomb()),
        "tensors alone": (root / "foreign").read_bytes(),
        "facts that are none": (root / "no json").read_bytes(),
    }


def test_what_is_damaged_or_foreign_is_ignored_and_never_unpickled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    for name, data in damaged(root).items():
        place(root).parent.mkdir()
        place(root).write_bytes(data)
        assert Checkpoint("run").load() is None, name
        assert not place(root).exists(), name
    torch.save(Bomb(), root / "pickled.pt")
    place(root).parent.mkdir()
    place(root).write_bytes((root / "pickled.pt").read_bytes())
    assert Checkpoint("run").load() is None
    assert not Path("exploded").exists()


def test_a_save_that_is_broken_off_leaves_the_one_before(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Checkpoint("run")
    saved.save(CheckpointState(TENSORS, {"epoch": 1}))

    def half(tensors: object, path: Path, facts: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tensors, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        saved.save(CheckpointState(TENSORS, {"epoch": 2}))
    found = saved.load()
    assert found is not None
    assert found.facts == {"epoch": 1}
    assert [path.name for path in place(root).parent.iterdir()] == [checkpoint.FILE]


def test_runs_that_were_never_ended_are_pruned_oldest_first(root: Path) -> None:
    for number in range(checkpoint.MAX_CHECKPOINTS + 2):
        Checkpoint(str(number)).save(CheckpointState({}, {}))
        os.utime(place(root, str(number)).parent, (number, number))
    Checkpoint("last").save(CheckpointState({}, {}))
    left = {path.name for path in (root / ".cache/train").iterdir()}
    assert left == {"last", *(str(number) for number in range(3, checkpoint.MAX_CHECKPOINTS + 2))}


def test_what_was_written_within_the_hour_may_still_go_on_and_stays(root: Path) -> None:
    for number in range(checkpoint.MAX_CHECKPOINTS + 3):
        Checkpoint(str(number)).save(CheckpointState({}, {}))
    assert len(list((root / ".cache/train").iterdir())) == checkpoint.MAX_CHECKPOINTS + 3
