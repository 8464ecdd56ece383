"""The scripts of docs/cluster.md, run with stubs of the schedulers' programs and of ours."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from pipeline.__main__ import app
from tests import ROOT

PAGE = (ROOT / "docs/cluster.md").read_text()
FAILURE = 3
STUBS = {
    "pipeline": f"""
        echo "${{MASTER_ADDR-}} pipeline $*" >> "$LOG"
        [ "$1" != predict ] || cat
        [ -z "${{FAIL-}}" ] || exit {FAILURE}""",
    "dvc": 'echo "${MASTER_ADDR-} NODE_RANK=${NODE_RANK-} dvc $*" >> "$LOG"',
    "sbatch": 'echo "sbatch $*" >> "$LOG"; echo 17',
    "scontrol": '[ "$*" = "show hostnames" ] && printf "first\\nsecond\\n"',
    # As SLURM does, on all nodes; its status is the largest of theirs.
    "srun": """
        while case "$1" in --*) ;; *) false ;; esac; do shift; done
        status=0
        for SLURM_NODEID in 0 1; do
          export SLURM_NODEID
          "$@" || status=$?
        done
        exit $status""",
    "torchrun": """
        while [ "$1" != --no-python ]; do
          [ "$1" != --node-rank ] || export RANK="$2"
          [ "$1" != --master-addr ] || export MASTER_ADDR="$2"
          shift
        done
        shift
        exec "$@" """,
}


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def block(language: str, text: str) -> str:
    """The block with a text."""
    (match,) = [block for block in blocks(language) if text in block]
    return match


def yaml_with(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(block("yaml", text))


@dataclass(frozen=True)
class Start:
    """How a scheduler starts one machine's share."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def slurm_array() -> list[Start]:
    script = block("bash", "--array")
    (last,) = re.findall(r"^#SBATCH --array=1-(\d+)$", script, re.M)
    numbers = range(1, int(last) + 1)
    return [Start(["bash", "-c", script], {"SLURM_ARRAY_TASK_ID": str(n)}) for n in numbers]


def kubernetes() -> list[Start]:
    spec = yaml_with("completionMode")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["parallelism"] == spec["completions"]
    indices = range(spec["completions"])
    return [Start(container["command"], {"JOB_COMPLETION_INDEX": str(n)}) for n in indices]


def skypilot() -> list[Start]:
    task = yaml_with("num_nodes")
    count = task["num_nodes"]
    return [
        Start(
            ["bash", "-c", task["run"]],
            {"SKYPILOT_NUM_NODES": str(count), "SKYPILOT_NODE_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def slurm_training() -> list[Start]:
    return [Start(["bash", "-c", block("bash", "srun")])]


def torchrun() -> list[Start]:
    script = block("bash", "torchrun")
    assert "--node-rank 0" in script
    return [
        Start(["bash", "-c", script.replace("--node-rank 0", f"--node-rank {rank}")])
        for rank in (0, 1)
    ]


def by_hand() -> list[Start]:
    lines = block("console", "second$").splitlines()
    scripts = [
        "\n".join(line[8:] for line in lines if line[:8].strip() == name) for name in MACHINES
    ]
    return [Start(["bash", "-e", "-c", script]) for script in scripts]


MACHINES = ("first$", "second$")
PARTS = {"slurm_array": slurm_array, "kubernetes": kubernetes, "skypilot": skypilot}
TRAININGS = {"slurm_training": slurm_training, "torchrun": torchrun, "by_hand": by_hand}
SCRIPTS = PARTS | TRAININGS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an environment of stubs."""
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name, body in STUBS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project: Path, start: Start, **environment: str) -> tuple[int, list[str]]:
    """The exit status of a start, and what it ran."""
    log = project / "log"
    log.write_text("")
    variables = {
        "PATH": f"{project / '.venv/bin'}:{os.environ['PATH']}",
        "LOG": str(log),
        **start.environment,
        **environment,
    }
    done = subprocess.run(start.words, cwd=project, env=variables, check=False)
    return done.returncode, [line.strip() for line in log.read_text().splitlines()]


def parse(line: str) -> dict[str, Any]:
    """The arguments of `pipeline parts` in a line of the log."""
    _, name, *words = line.split()
    commands: Any = typer.main.get_command(app)
    params: dict[str, Any] = commands.commands[name].make_context(name, words).params
    return params


@pytest.mark.parametrize("script", PARTS)
def test_each_part_is_run_once(project: Path, script: str) -> None:
    starts = PARTS[script]()
    lines = []
    for start in starts:
        status, started = run(project, start)
        assert status == 0
        lines += started
    assert [parse(line) for line in lines] == [
        {"stage": "features", "count": len(starts), "run": number}
        for number in range(1, len(starts) + 1)
    ]
    assert len(starts) == 8


@pytest.mark.parametrize("script", TRAININGS)
def test_each_machine_that_trains_gets_its_command(project: Path, script: str) -> None:
    results = [run(project, start) for start in TRAININGS[script]()]
    assert {status for status, _ in results} == {0}
    lines = [line for _, lines in results for line in lines]
    assert [line.split()[0] for line in lines] == ["first", "first"]  # MASTER_ADDR
    first, second = (line.partition(" ")[2] for line in lines)
    assert parse(second) == {"stage": "train", "count": 2, "run": 2}
    if script == "by_hand":
        assert first == "NODE_RANK=0 dvc repro"
    else:
        assert parse(first) == {"stage": "train", "count": 2, "run": 1}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_failure_is_seen_by_the_scheduler(project: Path, script: str) -> None:
    last = SCRIPTS[script]()[-1]
    assert run(project, last, FAIL="1")[0] == FAILURE


def test_the_stage_starts_after_the_parts(project: Path) -> None:
    lines = block("console", "sbatch").splitlines()
    script = "\n".join(line.removeprefix("$ ") for line in lines)
    status, (array, stage) = run(project, Start(["bash", "-e", "-c", script]))
    assert (status, array) == (0, "sbatch --parsable --partition=one-type features.sh")
    assert "--partition=one-type " in stage
    assert "--dependency=afterok:17 " in stage
    wrapped = stage.partition("--wrap ")[2]
    assert run(project, Start(["sh", "-c", wrapped])) == (0, ["NODE_RANK= dvc repro"])


def test_shares_of_predict_have_each_name_once(project: Path) -> None:
    script = block("bash", "pipeline predict")
    names = [f"photos/{number:02} of a.jpg" for number in range(19)]
    (project / "photos").mkdir()
    for name in names:
        (project / name).touch()
    (number,) = re.findall(r"> (\d)\.jsonl", script)
    shares = []
    for share in range(8):
        start = Start(["bash", "-c", script.replace("== 2", f"== {share}")])
        assert run(project, start)[0] == 0
        shares.append((project / f"{number}.jsonl").read_text().splitlines())
    assert shares[int(number)] == names[1::8]  # the second share
    assert sorted(name for share in shares for name in share) == names
    assert run(project, start, FAIL="1")[0] == FAILURE


def test_all_scripts_of_the_page_are_run_here() -> None:
    texts = ("--array", "srun", "torchrun", "pipeline predict")
    scripts = [block("bash", text) for text in texts]
    assert [text for text in blocks("bash") if text not in scripts] == []
