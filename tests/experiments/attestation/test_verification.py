import os
import random
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import keys, statement
from pipeline.experiments.attestation.files import PUBLIC_KEY, STATEMENT, describe
from pipeline.experiments.attestation.verification import Verification, verify
from tests.builders.attestations import MATERIALS, MODEL, Bundle, key, make_bundle, predicate
from tests.builders.repositories import commit_all, git

CHANGES = 1000


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def signer(tmp_path: Path) -> Path:
    (tmp_path / "signer.pub").write_bytes(keys.to_pem(key().public_key()))
    return tmp_path / "signer.pub"


def run(bundle: Bundle, signer: Path | None, with_data: bool = True) -> Verification:
    return verify(bundle.models, bundle.attestation, signer, with_data)


def test_a_bundle_as_it_was_signed_is_proved(bundle: Bundle, signer: Path) -> None:
    result = run(bundle, signer)
    assert result.is_proved
    assert set(result.files.same) == {*MODEL, *MATERIALS}
    assert not result.files.absent
    assert not result.files.unread


def test_without_a_key_the_signer_is_unknown(bundle: Bundle) -> None:
    result = run(bundle, None)
    assert not result.is_signer_known
    assert not result.is_proved
    assert not result.files.differences


def test_a_thousand_random_changes_of_a_byte_are_all_noticed(bundle: Bundle, signer: Path) -> None:
    chance = random.Random(0)
    unnoticed = []
    for _ in range(CHANGES):
        path = chance.choice(bundle.covered)
        data = path.read_bytes()
        changed = bytearray(data)
        place = chance.randrange(len(data))
        changed[place] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        if not is_noticed(bundle, signer, path):
            unnoticed.append((path.name, place))
        path.write_bytes(data)
    assert not unnoticed
    assert run(bundle, signer).is_proved


def is_noticed(bundle: Bundle, signer: Path, path: Path) -> bool:
    """Whether the change of a file is, with the name of the file."""
    try:
        (difference,) = run(bundle, signer).files.differences
    except PipelineError as error:
        return path.name == STATEMENT and STATEMENT in str(error)
    return path.name in difference


@pytest.mark.parametrize("name", MODEL)
def test_a_missing_file_of_the_model_differs(bundle: Bundle, signer: Path, name: str) -> None:
    (bundle.folder / name).unlink()
    assert run(bundle, signer).files.differences == [f"{name} is missing"]


def test_a_file_that_was_not_signed_differs(bundle: Bundle, signer: Path) -> None:
    (bundle.models / "sub").mkdir()
    (bundle.models / "sub/extra.py").write_text("")
    (bundle.models / ".hidden").write_text("")
    assert run(bundle, signer).files.differences == [
        "models/.hidden is not in the statement",
        "models/sub/extra.py is not in the statement",
    ]


def test_files_beside_the_model_may_be_absent(bundle: Bundle, signer: Path) -> None:
    (bundle.folder / "params.yaml").unlink()
    result = run(bundle, signer)
    assert result.is_proved
    assert result.files.absent == ["params.yaml"]


def test_images_are_read_only_on_request(bundle: Bundle, signer: Path) -> None:
    (bundle.folder / "data/raw/00000.arrow").write_bytes(b"others" * 20)
    assert run(bundle, signer, with_data=False).files.unread == ["data/raw/00000.arrow"]
    (difference,) = run(bundle, signer).files.differences
    assert difference.startswith("data/raw/00000.arrow has other bytes: sha256 ")


def test_the_statement_of_another_signer_is_refused(bundle: Bundle, signer: Path) -> None:
    content = statement.create([file_of(bundle, name) for name in MODEL], make_predicate())
    bundle.sign(content, number=1)
    (bundle.attestation / PUBLIC_KEY).write_bytes(keys.to_pem(key(1).public_key()))
    with pytest.raises(PipelineError, match="is signed by another key"):
        run(bundle, signer)
    assert not run(bundle, None).is_signer_known


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.timeout(20)
def test_what_has_no_content_differs(bundle: Bundle, signer: Path, kind: str) -> None:
    path = bundle.models / "model.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert "models/model.json is no regular file" in run(bundle, signer).files.differences


@pytest.mark.timeout(20)
def test_a_huge_file_is_not_read(bundle: Bundle, signer: Path) -> None:
    for path in (bundle.models / "model.json", bundle.folder / "params.yaml"):
        os.truncate(path, 2**42)
    assert len(run(bundle, signer).files.differences) == 2
    os.truncate(bundle.attestation / STATEMENT, 2**42)
    with pytest.raises(PipelineError, match="no regular file of at most"):
        run(bundle, signer)


def test_a_missing_statement_is_one_sentence(bundle: Bundle) -> None:
    (bundle.attestation / STATEMENT).unlink()
    with pytest.raises(PipelineError, match=r"there is no .*pipeline attest"):
        run(bundle, None)


@pytest.fixture
def clone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle in the working directory, with a repository that has the statement's commit."""
    monkeypatch.chdir(bundle.folder)
    for name in ("pipeline/a.py", "dvc.yaml", "datasets/pets/dataset.toml", "datasets/other/x"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1")
    commit_all("code")
    commit = git("rev-parse", "HEAD")
    content = statement.create([file_of(bundle, name) for name in MODEL], make_predicate(commit))
    bundle.sign(content)
    return bundle


def test_code_other_than_the_commits_differs(
    clone: Bundle, signer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(clone.folder))
    commit = git("rev-parse", "HEAD")
    assert run(clone, signer).is_proved
    for name in ("pipeline/a.py", "datasets/pets/dataset.toml", "datasets/other/x", "docs.md"):
        Path(name).write_text("2")
    Path("pipeline/new.py").write_text("")
    assert run(clone, signer).files.differences == [
        f"{name} is not as in commit {commit[:8]}"
        for name in ("datasets/pets/dataset.toml", "pipeline/a.py", "pipeline/new.py")
    ]


@pytest.mark.parametrize("is_project", [False, True])
def test_the_configuration_of_a_repository_runs_nothing(
    clone: Bundle, signer: Path, monkeypatch: pytest.MonkeyPatch, is_project: bool
) -> None:
    if is_project:
        monkeypatch.setenv("DVC_ROOT", str(clone.folder))
    program = clone.folder.parent / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {program}.ran\n")
    program.chmod(0o755)
    git("config", "core.fsmonitor", str(program))
    Path("pipeline/a.py").write_text("2")
    assert bool(run(clone, signer).files.differences) == is_project
    assert not Path(f"{program}.ran").exists()
    git("diff", "--name-only")
    assert Path(f"{program}.ran").exists(), "git runs the program where nothing forbids it"


def file_of(bundle: Bundle, name: str) -> statement.File:
    return describe(bundle.folder / name, name)


def make_predicate(commit: str = "c" * 40) -> statement.Predicate:
    return predicate([]).model_copy(update={"code": statement.Code(commit=commit)})
