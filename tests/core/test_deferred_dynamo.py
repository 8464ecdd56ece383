"""torch._dynamo is imported when something is compiled, and by nothing else."""

import subprocess
import sys

from tests import ROOT

TRAIN_THEN_COMPILE = """
import sys
import lightning_fabric
import torch
from pipeline.network import device
from pipeline.params import DeviceParams
from pipeline.stages.train.optimizer import without_compiler
from torchvision import ops, tv_tensors
from torchvision.transforms import v2

fabric = device.start(
    DeviceParams(accelerator="cpu", precision="32-true", devices=1, compile=False)
)
network = torch.nn.Linear(2, 2)
adam = without_compiler(torch.optim.Adam)
module, optimizer = fabric.setup(network, adam(network.parameters()))
fabric.backward(module(torch.ones(1, 2)).sum())
optimizer.step()
optimizer.zero_grad()
optimizer.optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules, "training"

compiled = torch.compile(torch.nn.Linear(2, 2), backend="eager")
assert isinstance(compiled, lightning_fabric.wrappers.OptimizedModule)
assert not isinstance(network, lightning_fabric.wrappers.OptimizedModule)
assert isinstance(fabric.setup_module(compiled)._forward_module, torch._dynamo.OptimizedModule)
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
assert ops.roi_align(torch.ones(1, 1, 4, 4), [boxes], 2).shape == (1, 1, 2, 2)
mask = tv_tensors.Mask(torch.ones(2, 2))
assert isinstance(tv_tensors.wrap(torch.zeros(2, 2), like=mask), tv_tensors.Mask)
assert isinstance(v2.functional.horizontal_flip(mask), tv_tensors.Mask)
"""


def test_only_compiling_imports_the_compiler() -> None:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import pipeline\n{TRAIN_THEN_COMPILE}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
