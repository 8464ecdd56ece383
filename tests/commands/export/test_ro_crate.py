import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.core.split_csv import SplitRow, read_split, write_split
from pipeline.experiments.attestation import attestation_folder, openssf
from pipeline.params import Params
from tests.builders import validators
from tests.builders.attestations import key, make_bundle, write_key
from tests.builders.results_of_dvc import write_result

CRATE = Path("crate")


@pytest.fixture
def result(
    dataset: Path,
    params: Params,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_result(params)
    monkeypatch.setattr(openssf, "is_installed", lambda: False)  # it takes a second to import
    private_key = write_key(tmp_path_factory.mktemp("keys") / "key.pem", key())
    attestation_folder.write(Path("attestation"), private_key, None, "")
    Path("attestation/notes.txt").write_text("private")


def export(*words: str) -> dict[str, dict[str, Any]]:
    """The entities of an exported crate by their ids."""
    CliRunner().invoke(app, ["export", "--ro-crate", str(CRATE), *words], catch_exceptions=False)
    metadata = json.loads((CRATE / "ro-crate-metadata.json").read_text())
    return {entity["@id"]: entity for entity in metadata["@graph"]}


@pytest.mark.usefixtures("result")
def test_every_file_is_described_with_its_digest() -> None:
    entities = export()
    files = {path for path in CRATE.rglob("*") if path.is_file()}
    parts = {CRATE / unquote(part["@id"]) for part in entities["./"]["hasPart"]}
    assert parts == files - {CRATE / "ro-crate-metadata.json"}
    for path in parts:
        entity = entities[path.relative_to(CRATE).as_posix().replace(" ", "%20")]
        assert (entity["@type"], entity["sha256"]) == ("File", sha256(path))
    assert {CRATE / "attestation/statement.dsse.json", CRATE / "dataset/images.csv"} <= parts
    assert CRATE / "attestation/notes.txt" not in parts


@pytest.mark.usefixtures("result")
def test_the_training_leads_from_data_and_params_to_model_and_figures() -> None:
    entities = export()
    training = entities["#training"]
    assert {"params.yaml", "dvc.lock", "split.csv"} <= {x["@id"] for x in training["object"]}
    outputs = {x["@id"] for x in training["result"]}
    assert {"models/model.safetensors", "reports/metrics.json"} <= outputs
    assert all(x["@id"] in entities for x in (*training["object"], *training["result"]))
    assert "git commit " in entities[training["instrument"]["@id"]]["identifier"]
    assert entities["#accuracy"]["value"] == 0.75
    assert "#loss" not in entities


@pytest.mark.usefixtures("result")
def test_the_split_has_no_names_of_owners() -> None:
    rows = [replace(row, group=f"owner {number % 2}") for number, row in enumerate(read_rows())]
    write_split(Path("other.csv"), rows)
    export("--split", "other.csv")
    packed = list(read_split(CRATE / "split.csv"))
    assert [replace(row, group="") for row in packed] == [replace(row, group="") for row in rows]
    assert packed[0].group == packed[2].group != packed[1].group
    assert "owner" not in (CRATE / "split.csv").read_text()


@pytest.mark.usefixtures("result")
def test_another_split_than_the_runs_is_refused() -> None:
    write_split(Path("other.csv"), read_rows()[1:])
    with pytest.raises(PipelineError, match=r"other\.csv is not the split of this run"):
        export("--split", "other.csv")


def read_rows() -> list[SplitRow]:
    return list(read_split(Path("data/split.csv")))


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize("damage", ["other model", "cut off", "no key", "no statement"])
def test_an_attestation_of_another_model_is_not_packed(damage: str) -> None:
    statement = Path("attestation/statement.dsse.json")
    if damage == "other model":
        make_bundle(Path("other"))
        shutil.copytree("other/attestation", "attestation", dirs_exist_ok=True)
    elif damage == "cut off":
        statement.write_bytes(statement.read_bytes()[:-10])
    else:
        (statement if damage == "no statement" else Path("attestation/signer.pem")).unlink()
    with pytest.raises(PipelineError, match="attestation is not an attestation of this model"):
        export()
    assert not CRATE.exists()


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("pipeline/a.py", "differs from commit"),
        ("data/split.csv", "has changed since"),
        ("reports/report.html", "is missing"),
    ],
)
def test_what_is_no_complete_result_is_refused(path: str, problem: str) -> None:
    Path(path).unlink()
    if problem != "is missing":
        Path(path).write_text("other")
    result = CliRunner().invoke(app, ["export", "--ro-crate", str(CRATE)])
    assert problem in str(result.exception)
    assert not CRATE.exists()


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize("profile", ["ro-crate-1.1", "process-run-crate-0.5"])
def test_the_official_validator_accepts_it(profile: str) -> None:
    export()
    words = ["-y", "validate", "-v", "--no-paging", "-p", profile, str(CRATE)]
    result = validators.run("rocrate-validator", *words)
    if "URLError" in result.stdout or "Unable to retrieve the JSON-LD context" in result.stdout:
        pytest.skip("rocrate-validator fetches RO-Crate's context from w3id.org, out of reach here")
    assert result.returncode == 0, result.stdout
    assert f"valid {profile}" in result.stdout
