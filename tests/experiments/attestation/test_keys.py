import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import keys
from tests.builders.attestations import key, write_key


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def test_a_new_key_is_for_its_owner_alone_and_signs(tmp_path: Path, project: Path) -> None:
    public = keys.create(tmp_path / "secret/key.pem", project)
    assert (tmp_path / "secret/key.pem").stat().st_mode & 0o777 == 0o600
    private_key = keys.read_private(tmp_path / "secret/key.pem", project)
    assert keys.read_public(public) == private_key.public_key()


def test_a_key_is_never_overwritten(tmp_path: Path, project: Path) -> None:
    keys.create(tmp_path / "key.pem", project)
    (tmp_path / "key.pem").unlink()  # the public key is still there
    with pytest.raises(PipelineError, match=r"key\.pem\.pub exists"):
        keys.create(tmp_path / "key.pem", project)
    assert not (tmp_path / "key.pem").exists()


def test_a_password_encrypts_the_key(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(keys.PASSWORD, "open sesame")
    keys.create(tmp_path / "key.pem", project)
    assert "ENCRYPTED" in (tmp_path / "key.pem").read_text()
    keys.read_private(tmp_path / "key.pem", project)
    for password in ("", "wrong"):
        monkeypatch.setenv(keys.PASSWORD, password)
        with pytest.raises(PipelineError, match="PIPELINE_KEY_PASSWORD is not its password"):
            keys.read_private(tmp_path / "key.pem", project)


@pytest.mark.parametrize("kind", ["file", "link to it", "link in the project", "dots"])
def test_a_private_key_inside_the_project_is_refused(
    tmp_path: Path, project: Path, kind: str
) -> None:
    inside, outside = project / "key.pem", tmp_path / "key.pem"
    path = outside if kind == "link to it" else inside
    if kind == "link in the project":
        write_key(outside, key())
        inside.symlink_to(outside)
    else:
        write_key(inside, key())
    if kind == "link to it":
        outside.symlink_to(inside)
    if kind == "dots":
        path = tmp_path / "other" / ".." / "project" / "key.pem"
        (tmp_path / "other").mkdir()
    with pytest.raises(PipelineError, match="inside the project"):
        keys.read_private(path, project)
    with pytest.raises(PipelineError, match="inside the project"):
        keys.create(project / "new.pem", project)
    assert not (project / "new.pem").exists()


def test_a_private_key_beside_the_project_in_its_repository_is_refused(
    tmp_path: Path, project: Path
) -> None:
    path = write_key(tmp_path / "key.pem", key())
    keys.read_private(path, project)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with pytest.raises(PipelineError, match="inside the project's repository"):
        keys.read_private(path, project)


@pytest.mark.parametrize(
    "private", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_other_kinds_of_keys_are_refused(tmp_path: Path, project: Path, private: object) -> None:
    with pytest.raises(PipelineError, match="another kind of key"):
        keys.read_private(write_key(tmp_path / "key.pem", private), project)


def test_a_missing_key_is_an_error_that_names_the_remedy(tmp_path: Path, project: Path) -> None:
    with pytest.raises(PipelineError, match=r"there is no key .*/no\.pem: `pipeline attest --new-"):
        keys.read_private(tmp_path / "no.pem", project)


@pytest.mark.parametrize("content", [b"", b"\xff\0", b"-----BEGIN PUBLIC KEY-----\nAA==\n"])
def test_what_is_no_key_is_one_sentence(tmp_path: Path, project: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(PipelineError, match="is no private key"):
        keys.read_private(tmp_path / "key.pem", project)
    with pytest.raises(PipelineError, match="is no public key"):
        keys.read_public(tmp_path / "key.pem")


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="is no public key"):
        keys.read_public(write_key(tmp_path / "key.pem", key()))


def test_a_file_of_any_size_is_not_read_as_a_key(tmp_path: Path) -> None:
    with (tmp_path / "key.pem").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(PipelineError, match="no regular file of at most"):
        keys.read_public(tmp_path / "key.pem")
