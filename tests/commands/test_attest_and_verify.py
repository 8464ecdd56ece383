"""The commands as people type them; what they do is tested in experiments/attestation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import app
from pipeline.experiments.attestation import keys, statement
from pipeline.experiments.attestation.files import STATEMENT, describe
from tests import ROOT
from tests.builders.attestations import MODEL, Bundle, key, make_bundle, predicate

# As the program starts; the number of modules is what its time depends on.
COUNT_MODULES = """
import atexit, sys
sys.argv = ["pipeline", "verify", *sys.argv[1:]]
packages = lambda: {name.split(".")[0] for name in sys.modules}
atexit.register(lambda: print(len(sys.modules), *packages()))
from pipeline.__main__ import main
main()
"""
SLOW = {"torch", "mlflow", "pandas", "pyarrow", "numpy", "cv2", "PIL", "sklearn", "dvc", "scipy"}
MAX_MODULES = 700


@pytest.fixture
def bundle(world: Path) -> Bundle:
    (world / "signer.pub").write_bytes(keys.to_pem(key().public_key()))
    return make_bundle(world)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_verify_says_what_the_statement_says_and_who_signed(bundle: Bundle) -> None:
    result = run("verify", "models", "--key", "signer.pub")
    assert result.exit_code == 0, result.output
    assert "3 images: 1 without a stated licence, 2 CC BY 4.0" in result.output
    assert "accuracy 0.5000" in result.output
    assert "not read: 1 shard of images" in result.output
    assert result.output.endswith(f"signed by {keys.identify(key().public_key())}\nverified\n")


@pytest.mark.parametrize("model", ["@champion", "models/model.json", "none"])
def test_what_is_no_folder_is_one_sentence(bundle: Bundle, model: str) -> None:
    problem = str(run("verify", model, "--attestation", "attestation").exception)
    assert problem.startswith(f"{model} is no folder: name the model's")


def test_an_unknown_signer_proves_nothing(bundle: Bundle) -> None:
    result = run("verify")
    assert result.exit_code == 1
    assert result.output.endswith("\nnot verified: unknown signer\n")


def test_verify_names_what_differs(bundle: Bundle) -> None:
    (bundle.models / "model.json").write_text("{}")
    (bundle.folder / "dvc.lock").unlink()
    result = run("verify", "models", "--key", "signer.pub")
    assert result.exit_code == 1
    assert "differs: models/model.json has 2 bytes, not 15" in result.output
    assert result.output.endswith("\nnot verified: 1 difference\n")
    assert "not here: dvc.lock" in result.output


def test_a_licence_of_any_length_does_not_fill_the_terminal(bundle: Bundle) -> None:
    content = predicate([])
    dataset = content.dataset.model_copy(update={"licences": {"\x1b[31m" * 10_000: 3}})
    content = content.model_copy(update={"dataset": dataset})
    bundle.sign(statement.create([describe(bundle.folder / name, name) for name in MODEL], content))
    result = run("verify", "--key", "signer.pub")
    assert result.exit_code == 0
    assert "\x1b[31m" not in result.output
    assert len(result.output) < 2000


def test_names_of_hostile_files_cannot_deceive(bundle: Bundle) -> None:
    for number in range(50):
        (bundle.models / f"\x1b[31m{number}").touch()
    result = run("verify", "--key", "signer.pub")
    assert "\x1b[31m" not in result.output
    assert "and 30 more" in result.output


@pytest.mark.parametrize("words", [(), ("--key", "signer.pub")])
def test_recompute_runs_nothing_of_strangers_and_nothing_that_differs(
    bundle: Bundle, words: tuple[str, ...]
) -> None:
    if words:
        (bundle.folder / "params.yaml").write_text("x")
    result = run("verify", "--recompute", *words)
    assert result.exit_code == 1
    problem = "so nothing is computed" if words else "give the signer's public key"
    assert problem in str(result.exception)


def test_recompute_needs_the_statements_commit(bundle: Bundle) -> None:
    result = run("verify", "--recompute", "--key", "signer.pub")
    assert "commit cccccccc is not in this clone" in str(result.exception)


def test_verify_imports_nothing_slow(bundle: Bundle) -> None:
    program = [sys.executable, "-c", COUNT_MODULES, "models", "--key", "signer.pub", "--data"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run(program, capture_output=True, text=True, env=environment)
    count, *names = process.stdout.splitlines()[-1].split()
    assert "signed by" in process.stdout, process.stderr
    assert not SLOW & set(names)
    assert int(count) <= MAX_MODULES


def test_attest_needs_a_key(world: Path) -> None:
    assert "--new-key FILE makes one" in str(run("attest").exception)


def test_attest_makes_a_key(world: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    result = run("attest", "--new-key", str(path))
    assert result.exit_code == 0, result.exception
    assert keys.identify(keys.read_public(Path(f"{path}.pub"))) in result.output


def test_a_missing_statement_is_one_sentence(world: Path) -> None:
    Path("models").mkdir()
    assert STATEMENT in str(run("verify").exception)
