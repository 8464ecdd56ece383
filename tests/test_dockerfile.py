"""The Dockerfile, as far as it can be checked without Docker."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.builders.served import Served

TEXT = (ROOT / "Dockerfile").read_text()
# An instruction and its arguments, on one line.
INSTRUCTIONS = [
    tuple(line.split(maxsplit=1))
    for line in re.sub(r"\\\n", "", re.sub(r"^#.*\n", "", TEXT, flags=re.M)).splitlines()
    if line
]
COPIED = [
    source
    for instruction, arguments in INSTRUCTIONS
    if instruction == "COPY" and not arguments.startswith("--from")
    for source in arguments.split()[:-1]
]
NOBODY = 65534


def arguments_of(name: str) -> list[str]:
    return [arguments for instruction, arguments in INSTRUCTIONS if instruction == name]


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_exists_and_is_sent_to_docker(source: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{source}" in lines
    if source != "models":  # an output of the stages
        tracked = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True)
        assert tracked.stdout


def test_nothing_else_is_sent_to_docker() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert sent == set(COPIED)


def test_packages_are_installed_by_their_hashes_alone() -> None:
    (run,) = [run for run in arguments_of("RUN") if "install.py" in run]
    assert "pip install" not in TEXT
    assert ".ci/install.py ${TORCH}" in run
    script = (ROOT / ".ci/install.py").read_text()
    assert 'pip("--require-hashes", *options, "--requirement", str(path))' in script


def test_the_service_runs_as_a_user_that_owns_its_cache_alone() -> None:
    assert arguments_of("USER") == ["10001"]
    (run,) = [run for run in arguments_of("RUN") if "useradd" in run]
    assert "useradd --uid 10001" in run
    assert "--owner pipeline /app/.cache" in run
    assert not any("--chown" in arguments for arguments in arguments_of("COPY"))


def test_only_what_development_needs_is_removed() -> None:
    command = [sys.executable, str(ROOT / ".ci/remove_development.py"), "--list"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    removed = set(listing.stdout.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert {"pip", "pytest", "mypy", "ruff", "ray", "moto"} <= removed
    assert not removed & {*declared, "jinja2", "starlette", "urllib3", "image-pipeline"}


def may_be_nobody() -> bool:
    """Whether this is root, and others may run its Python: pyenv's is in a folder of root alone."""
    python = Path(sys.executable).resolve()
    return os.geteuid() == 0 and all(path.stat().st_mode & 1 for path in [python, *python.parents])


@pytest.fixture
def app(striped_model: Path) -> Iterator[Path]:
    """A folder with what the image has: all may read it, and an ordinary user write .cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in {"pipeline", "params.yaml"} & set(COPIED):
            path = ROOT / source
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            copy(path, folder / source)
        shutil.copytree(striped_model / "models", folder / "models")
        subprocess.run(["chmod", "-R", "a+rX,a-w", folder], check=True)
        folder.chmod(0o755)
        (folder / ".cache").mkdir()
        if may_be_nobody():
            os.chown(folder / ".cache", NOBODY, NOBODY)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_the_command_serves_as_an_ordinary_user_and_is_healthy(app: Path) -> None:
    program, command, *options = json.loads(arguments_of("ENTRYPOINT")[0])
    (models,) = json.loads(arguments_of("CMD")[0])
    assert (program, command, options[-2:]) == ("pipeline", "serve", ["--port", "8000"])
    environment = {
        "PYTHONPATH": str(app),
        "HOME": "/nonexistent",
        "DVC_ROOT": str(app),
        "PIPELINE_SERVE_TOKEN": "secret",
    }
    user = NOBODY if may_be_nobody() else None
    with Served(*options[:-2], models, environment=environment, folder=app, user=user) as served:
        (check,) = arguments_of("HEALTHCHECK")
        words = json.loads(check.partition("CMD ")[2])
        script = words[2].replace(":8000/", f":{served.port}/")
        subprocess.run([sys.executable, "-c", script], check=True)
        assert served.ask("GET", "/readyz")[0] == 200
        code, output = served.end()
    assert code == 0, output
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert failed.returncode == 1  # nobody listens: the container is unhealthy


# In the place of docker: what runs in the container runs here, and volumes are the folders behind.
DOCKER = """#!{python}
import subprocess, sys
from pathlib import Path
import psutil

command, *words = sys.argv[1:]
volumes = dict(reversed(word.split(":")[:2]) for word in words if ":/" in word)
inside = words[words.index("image") + 1 :] if "image" in words else []
state = Path("{state}")
if command == "run" and "--entrypoint" in words:
    sys.exit(subprocess.call([sys.executable, *(volumes.get(word, word) for word in inside)]))
if command == "run":
    assert inside == ["models", "--no-token"]
    serve = [sys.executable, "-m", "pipeline", "serve", volumes["/app/models"], *{options}]
    log = state.with_suffix(".log").open("w")
    print(subprocess.Popen([*serve, "--port", "0"], stdout=log, stderr=log).pid)
    sys.exit()
lines = state.with_suffix(".log").read_text().splitlines()
urls = [word for line in lines for word in line.split() if word.startswith("http://")]
if command == "inspect":
    number = int(words[-1])
    is_alive = psutil.pid_exists(number) and psutil.Process(number).status() != "zombie"
    print("running healthy" if urls else "running starting" if is_alive else "exited unhealthy")
elif command == "logs":
    print(*lines)
elif command == "port":
    print(urls[0].removeprefix("http://").rstrip("/"))
elif command == "rm" and urls:
    psutil.Process(int(words[-1])).terminate()
"""


@pytest.mark.skipif(not shutil.which("curl"), reason="the check asks with curl")
@pytest.mark.parametrize(
    ("options", "expected"), [(["--no-token"], '"label"'), (["--unknown"], "exited unhealthy")]
)
def test_the_check_of_an_image_sends_a_picture(
    tmp_path: Path, options: list[str], expected: str
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        DOCKER.format(python=sys.executable, state=tmp_path / "state", options=options)
    )
    docker.chmod(0o755)
    result = subprocess.run(
        [ROOT / ".ci/check_image", "image"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode == 0) == (expected == '"label"'), result.stderr
    assert expected in result.stdout + result.stderr


def test_make_image_checks_what_it_built() -> None:
    (recipe,) = re.findall(r"^image:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe.splitlines()[-1] == "\t.ci/check_image image-pipeline"


def test_hadolint_accepts_the_dockerfile() -> None:
    if not shutil.which("hadolint"):
        pytest.skip("NO HADOLINT HERE: `make hadolint` checks the Dockerfile")
    command = ["hadolint", "--no-color", str(ROOT / "Dockerfile")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")
