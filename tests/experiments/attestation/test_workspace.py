"""Only a complete result of committed code is attested."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import keys, openssf
from pipeline.experiments.attestation.attestation_folder import write
from pipeline.experiments.attestation.verification import verify
from pipeline.params import Params
from tests.builders.attestations import key, write_key
from tests.builders.results_of_dvc import write_result


@pytest.fixture
def project(dataset: Path, params: Params) -> None:
    """A repository with a result of DVC in the working directory."""
    write_result(params)


@pytest.fixture
def private_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("keys") / "key.pem", key())


def attest(private_key: Path, onnx: Path | None = None) -> None:
    write(Path("attestation"), private_key, onnx, "")


@pytest.fixture
def no_openssf(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra: the library takes a second to import."""
    monkeypatch.setattr(openssf, "is_installed", lambda: False)


@pytest.mark.usefixtures("project", "no_openssf")
def test_a_result_is_attested_and_verified(private_key: Path) -> None:
    Path("model.onnx").write_bytes(b"onnx")
    attest(private_key, Path("model.onnx"))
    public_key = private_key.with_suffix(".pub")
    public_key.write_bytes(keys.to_pem(key().public_key()))
    result = verify(Path("models"), Path("attestation"), public_key, with_data=True)
    assert result.is_proved
    assert not result.files.absent
    assert {
        "models/model.safetensors",
        "model.onnx",
        "dvc.lock",
        "data/split.csv",
        "params.yaml",
        "requirements.lock",
        "reports/metrics.json",
        "data/raw/00000.arrow",
    } <= set(result.files.same)
    dataset = result.statement.predicate.dataset
    assert (dataset.images, dataset.classes) == (48, {"plain": 24, "striped": 24})
    assert dataset.licences == {"": 48}
    # The made-up requirements.lock has this line.
    environment = result.statement.predicate.environment
    assert environment.deviations == ["requirements.lock is missing"]
    assert result.statement.predicate.metrics == {"accuracy": 0.75, "loss": None, "n": 8}


@pytest.mark.usefixtures("project", "no_openssf")
def test_the_same_result_and_key_give_the_same_bytes(private_key: Path) -> None:
    attest(private_key)
    first = Path("attestation/statement.dsse.json").read_bytes()
    attest(private_key)
    assert Path("attestation/statement.dsse.json").read_bytes() == first


@pytest.mark.usefixtures("project")
def test_the_model_is_signed_for_openssf_too(private_key: Path) -> None:
    verifying = pytest.importorskip("model_signing.verifying")
    model = Path("models/model.safetensors")
    model.rename("elsewhere")
    model.symlink_to(Path("elsewhere").resolve())  # as DVC may link files of its cache
    attest(private_key)
    (public_key := private_key.with_suffix(".pub")).write_bytes(keys.to_pem(key().public_key()))
    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    Path("elsewhere").replace(model)  # a stranger gets a file
    config.verify("models", "attestation/model.sig")
    with model.open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(ValueError, match="mismatch"):
        config.verify("models", "attestation/model.sig")


def replace(path: str) -> Callable[[], None]:
    def change() -> None:
        target = Path(path)
        data = target.read_bytes()
        target.unlink()  # the file may be a hard link
        target.write_bytes(data + b" ")

    return change


@pytest.mark.usefixtures("project", "no_openssf")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (replace("models/model.json"), "models has changed since"),
        (replace("data/split.csv"), r"data/split\.csv has changed since"),
        (replace("data/raw/00000.arrow"), "data/raw has changed since"),
        (replace("reports/metrics.json"), "the model is not of the present code.*evaluate"),
        (replace("pipeline/a.py"), "the code or the data set differs from commit"),
        (lambda: Path("pipeline/b.py").touch(), "the code or the data set differs from commit"),
        (lambda: Path("requirements.lock").unlink(), r"requirements\.lock is not here"),
        (lambda: Path("data/leaks.csv").unlink(), r"data/leaks\.csv is not here"),
        (lambda: Path("dvc.lock").unlink(), "has no trained and tested model"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    private_key: Path, change: Callable[[], None], problem: str
) -> None:
    change()
    with pytest.raises(PipelineError, match=problem):
        attest(private_key)
    assert not Path("attestation").exists()


@pytest.mark.usefixtures("project", "no_openssf")
def test_packages_that_are_not_those_of_the_lock_are_stated_and_named(private_key: Path) -> None:
    numpy = importlib.metadata.version("numpy")
    Path("requirements.lock").write_text("numpy==1.0 \\\n    --hash=sha256:aa\nno-such==1\n")
    result = CliRunner().invoke(app, ["attest", "--key", str(private_key)])
    clauses = f"no-such is missing, numpy {numpy} instead of 1.0"
    assert f"2 packages installed here deviate from requirements.lock: {clauses}" in result.output
    result = CliRunner().invoke(app, ["verify"])
    assert f"other packages than in requirements.lock: {clauses}" in result.output


@pytest.mark.usefixtures("project", "no_openssf")
def test_a_damaged_lock_is_one_sentence(private_key: Path) -> None:
    Path("requirements.lock").write_text("<<<<<<< HEAD\n")
    with pytest.raises(PipelineError, match=r"requirements\.lock has a line '<<<<<<< HEAD'"):
        attest(private_key)


@pytest.mark.usefixtures("project", "no_openssf")
def test_params_that_were_changed_after_the_run_are_refused(private_key: Path) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("epochs: 3", "epochs: 4"))
    with pytest.raises(PipelineError, match="the model is not of the present code, params"):
        attest(private_key)


@pytest.mark.usefixtures("project", "no_openssf")
def test_an_onnx_file_elsewhere_is_refused(private_key: Path) -> None:
    (private_key.parent / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(PipelineError, match="is outside the project"):
        attest(private_key, private_key.parent / "model.onnx")


@pytest.mark.usefixtures("project", "no_openssf")
def test_a_file_with_a_name_that_verify_refuses_is_one_sentence(private_key: Path) -> None:
    Path("a:b.onnx").write_bytes(b"onnx")
    with pytest.raises(PipelineError, match=r"no statement can be made: 'a:b\.onnx' is no path"):
        attest(private_key, Path("a:b.onnx"))


@pytest.mark.usefixtures("project", "no_openssf")
def test_a_key_in_the_project_signs_nothing() -> None:
    write_key(Path("key.pem"), key())
    with pytest.raises(PipelineError, match="inside the project"):
        attest(Path("key.pem"))
    assert not Path("attestation").exists()
