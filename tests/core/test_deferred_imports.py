"""What few programs need is imported when it is needed, and then works as without deferring."""

import subprocess
import sys

from tests import ROOT

AS_PROGRAM = "import sys; sys.argv = ['-m']; import pipeline\n"

TRAIN_THEN_COMPILE = """
import lightning_fabric
import torch
from pipeline.network import device
from pipeline.params import DeviceParams
from pipeline.stages.train.optimizer import without_compiler
from torchvision import ops, tv_tensors
from torchvision.transforms import v2

fabric = device.start(
    DeviceParams(accelerator="cpu", precision="32-true", devices=1, nodes=1, compile=False)
)
network = torch.nn.Linear(2, 2)
adam = without_compiler(torch.optim.Adam)
module, optimizer = fabric.setup(network, adam(network.parameters()))
fabric.backward(module(torch.ones(1, 2)).sum())
optimizer.step()
optimizer.zero_grad()
optimizer.optimizer.load_state_dict(optimizer.state_dict())
assert torch.rand(2, generator=torch.Generator().manual_seed(0)).shape == (2,)
loaded = {"torch._dynamo", "torch._decomp", "torch._prims", "torch.onnx"} & sys.modules.keys()
assert not loaded, loaded

compiled = torch.compile(torch.nn.Linear(2, 2), backend="eager")
assert isinstance(compiled, lightning_fabric.wrappers.OptimizedModule)
assert not isinstance(network, lightning_fabric.wrappers.OptimizedModule)
assert isinstance(fabric.setup_module(compiled)._forward_module, torch._dynamo.OptimizedModule)
assert compiled(torch.ones(1, 2)).shape == (1, 2)
boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
assert ops.roi_align(torch.ones(1, 1, 4, 4), [boxes], 2).shape == (1, 1, 2, 2)
mask = tv_tensors.Mask(torch.ones(2, 2))
assert isinstance(tv_tensors.wrap(torch.zeros(2, 2), like=mask), tv_tensors.Mask)
assert isinstance(v2.functional.horizontal_flip(mask), tv_tensors.Mask)
"""

PRINT_REGISTERED = """
import importlib, sys
import torch
name = "{module}"
module = importlib.import_module(name)
parent, _, child = name.rpartition(".")
assert sys.modules[name] is module is getattr(sys.modules[parent], child)
import torch._decomp
torch.Generator()
meta = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_cdist_forward", "Meta")
print(len(torch._decomp.meta_table), len(torch._decomp.decomposition_table), meta)
"""

CONVERT = """
import sys
sys.modules[__name__].__dict__["__name__"] = "pipeline.example"  # whose code this stands for
import pyarrow as pa
import pyarrow.compute as pc

column = pa.array(["a", "b", None])
assert pc.equal(column, "a").to_pylist() == [True, False, None]
assert pa.table({"x": [1, 2]}).num_rows == 2
assert "pandas" not in sys.modules
__name__ = "elsewhere"
import pandas
assert pandas.DataFrame({"x": [1]}).shape == (1, 1)
"""

OPEN_MLFLOW = """
import sys
from pipeline.tracking import record
import mlflow.store.tracking.sqlalchemy_store
slow = {"torch", "pandas", "scipy", "fastapi", "mlflow.genai.evaluation", "mlflow.models.signature"}
assert not slow & sys.modules.keys()

from mlflow import genai
from mlflow.genai.scorers import Correctness
from mlflow.data.evaluation_dataset import EvaluationDataset
assert genai is mlflow.genai and callable(genai.evaluate)
assert callable(mlflow.genai.judges.make_judge) and callable(mlflow.gateway.get_gateway_uri)
assert not hasattr(genai, "no_such_name")
from mlflow.models import Model, ModelSignature
assert callable(Model.log) and callable(mlflow.pyfunc.load_model)
"""

MAP = """
import sys
import numpy as np
from pipeline.stages.evaluate.plane_map import map_to_plane
points = map_to_plane(np.random.default_rng(0).normal(size=(100, 64)))
print(sys.argv[0] == "-m" and "sklearn.linear_model" in sys.modules, points.tobytes().hex())
from sklearn.manifold import Isomap
from sklearn.linear_model import Lasso
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier
import scipy.stats
assert accuracy_score([0, 1], [0, 1]) == 1 and scipy.stats.norm.cdf(0) == 0.5
"""


def run(program: str) -> str:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_only_compiling_imports_the_compiler() -> None:
    run(AS_PROGRAM + TRAIN_THEN_COMPILE)


def test_what_is_deferred_comes_whole() -> None:
    """Other modules of torch meet all that it registers, in whatever order they are imported."""
    programs = [
        PRINT_REGISTERED.format(module=module)
        for module in ("torch._decomp", "torch.utils._content_store")
    ]
    registered = run(programs[0])
    assert [run(AS_PROGRAM + program) for program in programs] == [registered] * 2


def test_pyarrow_does_not_import_pandas() -> None:
    run(AS_PROGRAM + CONVERT)


def test_mlflow_opens_a_store_without_its_slow_parts_which_still_work() -> None:
    run(AS_PROGRAM + OPEN_MLFLOW)


def test_a_map_of_images_needs_only_parts_of_scikit_learn_and_has_the_same_bytes() -> None:
    assert run(AS_PROGRAM + MAP) == run(MAP)
