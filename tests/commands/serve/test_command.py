from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import app
from pipeline.commands.serve import service
from pipeline.commands.serve.command import EVERYBODY, TOKEN
from pipeline.inference.decoder_pool import DecoderPool


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["serve", *words])


def test_other_machines_need_a_token(world: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    result = run("--host", "0.0.0.0")
    assert str(result.exception).startswith("--host 0.0.0.0 lets other machines ask: set PIPELINE")


@pytest.mark.parametrize("token", ["", " secret", "sécret", "a\tb"])
def test_a_token_that_no_header_can_have_is_refused(
    world: object, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    assert "is empty or has characters" in str(run().exception)


@pytest.mark.usefixtures("warm_workers")
def test_a_missing_model_is_one_sentence(world: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    for words in (["nowhere"], ["nowhere", "--host", "0.0.0.0", "--no-token"]):
        assert "nowhere" in str(run(*words).exception)


@dataclass
class Stopped:
    """A service that ends at once."""

    model: str = "pets"
    url: str = "http://127.0.0.1/"
    note: str = "; a note"

    def run(self) -> None:
        pass


@pytest.mark.parametrize(
    ("words", "token", "data", "end"),
    [
        ([], None, Path("data"), "; a note"),
        (["--no-neighbours"], None, None, "; a note"),
        (["--host", "0.0.0.0"], "secret", Path("data"), "; a note"),
        (["--host", "0.0.0.0", "--no-token"], None, None, EVERYBODY),
    ],
)
def test_training_images_are_not_for_everybody(
    world: object,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    token: str | None,
    data: Path | None,
    end: str,
) -> None:
    folders = []

    @contextmanager
    def open_service(*arguments: object) -> Iterator[Stopped]:
        folders.append(arguments[-1])
        yield Stopped()

    monkeypatch.setattr(service, "open_service", open_service)
    monkeypatch.setattr(DecoderPool, "start", lambda _: None)
    if token:
        monkeypatch.setenv(TOKEN, token)
    else:
        monkeypatch.delenv(TOKEN, raising=False)
    line = run(*words).stdout.splitlines()[0]
    assert line == f"serve: http://127.0.0.1/ answers with pets (Ctrl-C ends it){end}"
    assert folders == [data]
