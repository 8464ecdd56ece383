from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.experiments import dvc
from tests import ROOT

TOML = 'kind = "folder"\ndescription = "d"\npath = "../../photos"\n'


@pytest.fixture
def calls(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands of DVC that were run."""
    calls: list[tuple[str, ...]] = []

    def run(*arguments: str) -> tuple[int, list[str]]:
        calls.append(arguments)
        return 0, []

    monkeypatch.setattr(dvc, "run", run)
    (world / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for name in ("sample", "images"):
        (world / "datasets" / name).mkdir(parents=True)
        (world / f"datasets/{name}/dataset.toml").write_text(TOML)
    (world / "photos").mkdir()
    return calls


def run(*words: str) -> int:
    return CliRunner().invoke(app, ["run", *words], catch_exceptions=False).exit_code


def test_what_is_right_is_passed_on(calls: list[tuple[str, ...]]) -> None:
    assert run("images", "-S", "train.lr=0.1", "--name", "fast") == 0
    options = ("-S", "dataset.name=images", "-S", "dataset.source=datasets", "-S", "train.lr=0.1")
    assert calls == [("exp", "run", *options, "--name", "fast")]


def test_the_home_folder_is_expanded(
    calls: list[tuple[str, ...]], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(world))
    assert run("-S", "dataset.source=~/photos") == 0
    assert calls[0][-1] == f"dataset.source={world}/photos"


def test_a_source_may_have_blanks_and_parentheses(
    calls: list[tuple[str, ...]], world: Path
) -> None:
    (world / "my photos (1)").mkdir()
    assert run("-S", "dataset.source=my photos (1)") == 0
    assert calls[0][-1] == 'dataset.source="my photos (1)"'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "-S", "dataset.name=images"], "two data sets are named: sample, and with -S"),
        (["sampel"], "no data set is called 'sampel' (did you mean sample?): images, sample"),
        (["-S", "dataset.name=sampel"], "dataset.toml is missing (there are: images, sample; did"),
        (["-S", "dataset.source=phots"], "phots does not exist (did you mean photos?)"),
        (["-S", "dataset.source=~/phots"], "/phots does not exist (did you mean "),
        (["-S", "train.lr=fast"], "train.lr = 'fast', but should be a valid number"),
        (["-S", "train.lrr=1"], "train.lrr = 1 is not a known key (did you mean lr?)"),
        (["-S", "train"], "-S 'train' is not KEY=VALUE"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(
    calls: list[tuple[str, ...]],
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("HOME", str(world))
    with pytest.raises(PipelineError) as caught:
        run(*words)
    assert message in str(caught.value)
    assert calls == []
