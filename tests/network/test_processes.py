import pytest

from pipeline.core import program
from pipeline.core.errors import PipelineError
from pipeline.network import device, processes
from pipeline.params import DeviceParams

VARIABLES = (
    *("WORLD_SIZE", "LOCAL_RANK", "RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"),
)
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0"}
SECOND = {"MASTER_ADDR": "node-1", "MASTER_PORT": "29500", "NODE_RANK": "1"}


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def device_params(devices: int, nodes: int) -> DeviceParams:
    return DeviceParams(
        accelerator="cpu", precision="32-true", devices=devices, nodes=nodes, compile=False
    )


@pytest.mark.parametrize(
    ("devices", "nodes", "variables"),
    [
        (1, 1, {}),
        (2, 1, {}),
        (2, 1, {"WORLD_SIZE": "1"}),
        (2, 1, TORCHRUN | {"WORLD_SIZE": "2"}),
        (1, 2, TORCHRUN | {"WORLD_SIZE": "2"}),
        (2, 2, TORCHRUN | {"WORLD_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"}),
        (2, 2, SECOND),
        (2, 2, SECOND | {"SLURM_STEP_NUM_TASKS": "2"}),
        (2, 2, SECOND | {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}),  # started by Fabric
    ],
)
def test_as_many_processes_as_the_params_say_may_start(
    monkeypatch: pytest.MonkeyPatch, devices: int, nodes: int, variables: dict[str, str]
) -> None:
    set_variables(monkeypatch, variables)
    processes.check_start(device_params(devices, nodes))


@pytest.mark.parametrize(
    ("devices", "nodes", "variables", "started"),
    [
        (1, 1, {"WORLD_SIZE": "2"}, "2 processes were started (WORLD_SIZE)"),
        (2, 1, {"WORLD_SIZE": "4"}, "4 processes were started (WORLD_SIZE)"),
        (1, 1, {"SLURM_STEP_NUM_TASKS": "3"}, "3 processes were started (SLURM_STEP_NUM_TASKS)"),
        (2, 1, TORCHRUN | {"WORLD_SIZE": "1"}, "1 processes were started (WORLD_SIZE)"),
        (1, 2, TORCHRUN | {"WORLD_SIZE": "4"}, "4 processes were started (WORLD_SIZE)"),
        (2, 2, TORCHRUN | {"WORLD_SIZE": "2"}, "2 processes were started (WORLD_SIZE)"),
        (2, 2, SECOND | {"SLURM_STEP_NUM_TASKS": "4"}, "4 processes were started (SLURM"),
    ],
)
def test_another_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    devices: int,
    nodes: int,
    variables: dict[str, str],
    started: str,
) -> None:
    """Each would train the whole model into models/, or wait for others."""
    set_variables(monkeypatch, variables)
    with pytest.raises(PipelineError) as caught:
        device.start(device_params(devices, nodes))
    message = str(caught.value)
    assert message.startswith(started)
    assert f"but device.devices={devices} and device.nodes={nodes}: set " in message
    assert device.start(device_params(devices, nodes), alone=True).world_size == 1


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "device.nodes=2, but MASTER_ADDR, MASTER_PORT, NODE_RANK are not set: start the"),
        (SECOND | {"MASTER_PORT": ""}, "device.nodes=2, but MASTER_PORT is not set: start the"),
        (SECOND | {"NODE_RANK": "2"}, "NODE_RANK=2, but with device.nodes=2 it should be from 0"),
        (SECOND | {"NODE_RANK": "one"}, "NODE_RANK=one, but with device.nodes=2 it should be"),
    ],
)
def test_a_process_that_does_not_know_its_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    set_variables(monkeypatch, variables)
    with pytest.raises(PipelineError) as caught:
        processes.check_start(device_params(1, 2))
    assert str(caught.value).startswith(sentence)


def test_a_batch_script_of_slurm_is_no_place_among_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fabric itself would take this process for one of two that srun has started."""
    for name, value in {"NTASKS": "2", "NTASKS_PER_NODE": "2", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not processes.environment().creates_processes_externally


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        (TORCHRUN | {"RANK": "0"}, True),
        (TORCHRUN | {"RANK": "1"}, False),  # the first of the second machine
        (SECOND, False),
        (SECOND | {"NODE_RANK": "0"}, True),
        (SECOND | {"NODE_RANK": "0", "LOCAL_RANK": "1"}, False),
        ({"RANK": "3"}, True),  # of something else
    ],
)
def test_one_process_of_all_machines_is_the_first(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_first: bool
) -> None:
    set_variables(monkeypatch, variables)
    assert program.is_first_process() is is_first


def test_only_the_loss_of_another_process_is_explained() -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:5")
    with (
        pytest.raises(PipelineError, match="another process of this training ended"),
        processes.explain_loss(is_several=True),
    ):
        raise lost
    for error, is_several in ((RuntimeError("shapes differ"), True), (lost, False)):
        with pytest.raises(RuntimeError) as caught, processes.explain_loss(is_several):
            raise error
        assert caught.value is error
