"""The processes that train together, on one machine or several: how they start, and how they fail.

There are device.devices on each of device.nodes machines. torchrun starts all of them, or people
start one on each machine, with its number in NODE_RANK, and Lightning Fabric starts the others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line
from pipeline.params import DeviceParams

COUNTS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # of processes: torchrun's, srun's
PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")  # of one machine among others
# In errors of collective operations: of gloo (on CPUs), and of NCCL (on GPUs).
LOST = ("gloo", "NCCL", "ncclRemoteError", "Connection reset by peer", "Connection closed by peer")


def environment() -> ClusterEnvironment:
    """Where Fabric gets this process's place from.

    By itself it would take a batch script of SLURM for a process that srun has started, and wait
    for others.
    """
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


def check_start(device: DeviceParams) -> None:
    """Refuse processes that would each train the whole model, or wait for others for ever.

    Raises:
        PipelineError: there are more or fewer than the params say, or this one does not know its
            place.
    """
    is_of_torchrun = TorchElasticEnvironment.detect()
    are_all_started = is_of_torchrun or "LOCAL_RANK" in os.environ
    variable = next((name for name in COUNTS if name in os.environ), COUNTS[0])
    started = os.environ.get(variable, "1")
    expected = str(device.devices * device.nodes if are_all_started else device.nodes)
    if started != expected and (are_all_started or started != "1"):
        raise PipelineError(
            f"{started} processes were started ({variable}), but device.devices={device.devices} "
            f"and device.nodes={device.nodes}: set device.nodes to the number of machines and "
            "device.devices to that of the processes on each, and start as many, or one per machine"
        )
    if device.nodes > 1 and not is_of_torchrun:
        _check_place(device.nodes)


def _check_place(nodes: int) -> None:
    missing = [name for name in PLACE if not os.environ.get(name)]
    if missing:
        raise PipelineError(
            f"device.nodes={nodes}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            " not set: start the training on each machine as docs/cluster.md says, or set "
            "device.nodes=1"
        )
    rank = os.environ["NODE_RANK"]
    if not (rank.isdecimal() and int(rank) < nodes):
        raise PipelineError(
            f"NODE_RANK={rank}, but with device.nodes={nodes} it should be from 0 to {nodes - 1}"
        )


def launch(fabric: Fabric) -> None:
    """Start this machine's other processes, and wait until those of all machines have started.

    Raises:
        PipelineError: they have not within half an hour, or cannot reach one another.
    """
    try:
        fabric.launch()
    except RuntimeError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise PipelineError(
            f"the processes that train together do not reach one another at {where} (MASTER_ADDR, "
            f"MASTER_PORT): {one_line(error)}"
        ) from error


@contextmanager
def explain_loss(is_several: bool) -> Iterator[None]:
    """Turn the error of a process whose partner has died into one sentence.

    Raises:
        PipelineError: another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not (is_several and any(text in str(error) for text in LOST)):
            raise
        raise PipelineError(
            "another process of this training ended, here or on another machine, which says why; "
            "start the training again: it continues from its last epoch"
        ) from error
