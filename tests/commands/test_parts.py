import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.commands.parts import MachineCommand, parts
from pipeline.core.errors import PipelineError
from pipeline.network import views
from pipeline.params import Params
from pipeline.stages.features import __main__ as features
from pipeline.stages.filter import part as filter_part
from tests import ROOT
from tests.builders.params import NARROW_RESNET, override


@pytest.fixture
def project(dataset: Path, params: Params) -> Path:
    """A project with data/clean and data/split.csv, for a small network."""
    small = override(params, **NARROW_RESNET)
    YAML(typ="safe", pure=True).dump(small.model_dump(), Path("params.yaml"))
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    return dataset.parent


def run_features(*arguments: str) -> None:
    """The stage as `python -m` calls it."""
    clean, split_csv, folder, *options = arguments
    named = dict(zip(options[::2], options[1::2], strict=True))
    features.main(
        Path(clean), Path(split_csv), Path(folder), part=named["--part"], key=named["--key"]
    )


def test_the_printed_commands_compute_what_the_stage_needs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts("features", 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" --key")[0] for line in lines] == [
        f"python -m pipeline.stages.features data/clean data/split.csv data/features --part {n}/2"
        for n in (1, 2)
    ]
    for line in lines:
        run_features(*shlex.split(line)[3:])
    monkeypatch.setattr(views.Views, "__getitem__", None)
    features.main(Path("data/clean"), Path("data/split.csv"), Path("data/features"))


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What replaces this process: command lines, each with its NODE_RANK."""
    lines: list[str] = []

    def execve(program: str, words: list[str], environment: dict[str, str]) -> None:
        assert program == words[0] == sys.executable
        rank = [f"NODE_RANK={environment['NODE_RANK']}"] if "NODE_RANK" in environment else []
        line = shlex.join([*rank, "python", *words[1:]])
        lines.append(line.replace("python -m dvc", "dvc"))
        raise SystemExit

    monkeypatch.setattr(os, "execve", execve)
    return lines


@pytest.mark.parametrize(("stage", "count"), [("filter", 2), ("train", 2)])
def test_one_of_the_printed_commands_is_run(
    project: Path,
    params: Params,
    capsys: pytest.CaptureFixture[str],
    executed: list[str],
    stage: str,
    count: int,
) -> None:
    values = override(params, **NARROW_RESNET, device__nodes=2).model_dump()
    YAML(typ="safe", pure=True).dump(values, Path("params.yaml"))
    parts(stage, count)
    printed = capsys.readouterr().out.splitlines()
    for number in range(1, count + 1):
        with pytest.raises(SystemExit):
            parts(stage, count, run=number)
    assert executed == printed
    assert capsys.readouterr().out == ""
    with pytest.raises(PipelineError, match=f"--run {count + 1} names none of {count} commands"):
        parts(stage, count, run=count + 1)


def test_a_command_that_is_run_replaces_the_process() -> None:
    code = "import os, sys; sys.exit(int(os.environ['CODE']) + (os.getpid() == int(sys.argv[1])))"
    if not (pid := os.fork()):
        try:
            MachineCommand(["python", "-c", code, str(os.getpid())], {"CODE": "6"}).execute()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_values_of_params_are_in_the_command(
    project: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    values = override(params, dataset__name="pets").model_dump()
    YAML(typ="safe", pure=True).dump(values, Path("params.yaml"))
    parts("filter", 1)
    (line,) = capsys.readouterr().out.splitlines()
    assert shlex.split(line) == [
        *("python", "-m", "pipeline.stages.filter", "datasets/pets", "data/raw", "data/clean"),
        *("data/verdicts.csv", "--part", "1/1", "--key", filter_part.key_of([])),
    ]


@pytest.mark.parametrize(
    ("stage", "path", "first"),
    [("filter", "data/raw", "acquire"), ("features", "data/split.csv", "split")],
)
def test_what_must_run_first_is_named(project: Path, stage: str, path: str, first: str) -> None:
    Path(path).rename("elsewhere")
    with pytest.raises(PipelineError) as caught:
        parts(stage, 2)
    assert f"{path}, which {stage} reads, is missing: run `dvc repro {first}`" in str(caught.value)


def test_results_of_other_params_have_no_parts(project: Path) -> None:
    lock = {"stages": {"acquire": {"cmd": "", "params": {"params.yaml": {"dataset": "other"}}}}}
    YAML(typ="safe", pure=True).dump(lock, Path("dvc.lock"))
    with pytest.raises(PipelineError) as caught:
        parts("filter", 2)
    assert "of other params, data or code (stages behind: acquire): run" in str(caught.value)


@pytest.mark.parametrize("stage", ["describe", "nothing"])
def test_other_stages_have_no_parts(project: Path, stage: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parts(stage, 2)
    assert str(caught.value) == (
        f"{stage} cannot be computed in parts: choose filter, features, evaluate or train"
    )


def test_machines_that_train_together_have_a_command_each(
    project: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    values = override(params, device__nodes=3).model_dump()
    YAML(typ="safe", pure=True).dump(values, Path("params.yaml"))
    parts("train", 3)
    train = (
        "python -m pipeline.stages.train data/clean data/split.csv data/features models "
        "reports/history.csv reports/augmented.png"
    )
    assert capsys.readouterr().out.splitlines() == [
        "NODE_RANK=0 dvc repro",
        f"NODE_RANK=1 {train}",
        f"NODE_RANK=2 {train}",
    ]
    with pytest.raises(PipelineError, match=r"device\.nodes=3, but you ask for 2 machines"):
        parts("train", 2)


def test_without_features_there_are_no_parts_of_them(project: Path, params: Params) -> None:
    values = override(params, **NARROW_RESNET, model__trainable="all").model_dump()
    YAML(typ="safe", pure=True).dump(values, Path("params.yaml"))
    with pytest.raises(PipelineError, match=r"no features are stored \(nothing is frozen\)"):
        parts("features", 2)
