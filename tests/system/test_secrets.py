"""No secret of the environment is printed or written: a canary is in every variable."""

import ast
import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core import addresses, terminal
from pipeline.core.errors import PipelineError
from pipeline.datasets.source_path import find_path
from pipeline.distributed.ray_connection import check_cluster
from pipeline.distributed.shared_cache import open_shared_cache
from pipeline.tracking import store
from tests import ROOT
from tests.builders import canaries
from tests.builders.canaries import CANARY, USER
from tests.project import Project

# Variables that the package reads, and that hold no secret.
PLAIN = {
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"),
    *("DVC_EXP_BASELINE_REV", "DVC_EXP_NAME", "DVC_ROOT", "GITHUB_STEP_SUMMARY", "TERM"),
    *("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "RANK", "TORCHELASTIC_RUN_ID"),
    *("PIPELINE_BACKBONE", "PIPELINE_DATASET", "PIPELINE_SET", "REQUESTS_CA_BUNDLE"),
    *("MLFLOW_DISABLE_TELEMETRY", "OMP_WAIT_POLICY", "PYTORCH_NVML_BASED_CUDA_CHECK"),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    *("RAY_worker_niceness", "SLURM_NTASKS", "TORCHINDUCTOR_DETERMINISTIC", "WORLD_SIZE"),
}


def read_variables() -> Iterator[str]:
    """The names of the variables that the package reads."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "pipeline").rglob("*.py"))]
    constants: dict[str, set[str]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                constants.setdefault(node.targets[0].id, set()).update(_texts(node.value))
            if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
                constants.setdefault(node.target.id, set()).update(_texts(node.iter))
    for tree in trees:
        for node in ast.walk(tree):
            if (name := _variable(node)) is not None:
                yield from _texts(name) or _resolve(name, constants)


def _variable(node: ast.AST) -> ast.expr | None:
    """The name in os.environ.get(NAME), os.environ[NAME], NAME in os.environ, envvar=NAME."""
    match node:
        case ast.Call(func=ast.Attribute(value=where, attr="get" | "setdefault"), args=[name, *_]):
            return name if _is_environment(where) else None
        case ast.Subscript(value=where, slice=name) if _is_environment(where):
            return name
        case ast.Compare(left=name, ops=[ast.In()], comparators=[where]) if _is_environment(where):
            return name
        case ast.keyword(arg="envvar", value=name):
            return name
    return None


def _is_environment(node: ast.expr) -> bool:
    return ast.unparse(node) == "os.environ"


def _texts(node: ast.AST) -> set[str]:
    texts = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and text.isidentifier()}


def _resolve(name: ast.expr, constants: dict[str, set[str]]) -> set[str]:
    names = {part.id for part in ast.walk(name) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(name) if isinstance(part, ast.Attribute)}
    return {text for part in names for text in constants.get(part, set()) if text.isupper()}


def test_every_variable_is_tried() -> None:
    listed = {*canaries.SECRETS, *canaries.ADDRESSES, *canaries.PLACES, *PLAIN}
    variables = set(read_variables())
    assert {"FLICKR_API_KEY", "PIPELINE_CACHE", "PIPELINE_SERVE_TOKEN"} <= variables
    assert not variables - listed, "add it to tests/builders/canaries.py, or to PLAIN"


def test_a_run_writes_no_secret_of_its_environment(first_run: Project) -> None:
    """`first_run` has the canaries, also in its log: not in a file, mlflow.db or dvc.lock."""
    assert (first_run.folder / ".dvc/tmp/first-run.log").stat().st_size > 1000
    assert (first_run.folder / "mlflow.db").exists()
    assert canaries.find(first_run.folder) == []


def test_the_search_finds_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "database").write_bytes(b"\0" + CANARY.encode("utf-16-le") + b"\0")
    (tmp_path / "header").write_bytes(base64.b64encode(f"{USER}".encode()))
    (tmp_path / f"file-{CANARY}").touch()
    (tmp_path / "harmless").write_text("secret")
    assert len(canaries.find(tmp_path)) == 3


ADDRESSES = [
    f"http://{USER}@127.0.0.1:9",
    f"postgresql://{USER}@127.0.0.1:9/db",
    f"s3://{USER}@bucket/prefix",
    f"{USER}@127.0.0.1:9",
    f"bogus://{USER}@127.0.0.1:9",
    f"https://127.0.0.1:9/a.zip?token={CANARY}",
]


def ping_store(_: str) -> None:
    store.connect()
    store.ping()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "use",
    [
        ping_store,
        open_shared_cache,
        lambda _: check_cluster(),
        lambda address: addresses.open_address(address, "path"),
        find_path,
    ],
    ids=["store", "shared cache", "cluster", "object storage", "source"],
)
def test_a_wrong_address_is_named_without_its_password(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[str], object],
    address: str,
) -> None:
    for name in canaries.PLACES:
        monkeypatch.setenv(name, address)
    with pytest.raises(PipelineError) as caught:
        use(address)
    assert CANARY not in terminal.without_secrets(str(caught.value))


def test_a_run_with_wrong_addresses_prints_and_writes_no_password(
    first_run: Project, tmp_path: Path
) -> None:
    project, address = first_run.copied(tmp_path), f"{USER}@127.0.0.1:9"
    project.run("git", "config", "-f", ".dvc/config", "core.remote", "away")
    project.run("git", "config", "-f", ".dvc/config", "remote.away.url", address)
    places = dict.fromkeys(canaries.PLACES, address)
    output = project.python("-m", "pipeline", "doctor", **places).stdout
    evaluated = project.python("-m", "pipeline.stages.evaluate", *EVALUATE, **places)
    assert evaluated.returncode == 0, evaluated.stdout
    assert "MLflow at 127.0.0.1:9 fails" in evaluated.stdout
    assert "the folder of DVC's remote" in output
    assert CANARY not in output + evaluated.stdout
    assert canaries.find(project.folder, {".dvc/config": "the remote"}) == []


EVALUATE = (
    *("models", "data/features", "data/clean", "data/split.csv", "reports/history.csv"),
    *("reports/metrics.json", "reports/test", "reports/report.html"),
)
