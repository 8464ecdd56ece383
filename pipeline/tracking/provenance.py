"""Where a model comes from, as tags and files of its run: enough to make it again from them."""

import getpass
import importlib.metadata
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.core import dvc_lock
from pipeline.core.git import try_git

COMMIT, EXPERIMENT, BASELINE = "git.commit", "dvc.experiment", "dvc.baseline"
FINGERPRINT, MODELS, TEST = "model.fingerprint", "result.models", "result.test"
DATASET = "dataset.name"  # a param; MLflow's experiment is called so
PARAMS, LOCK, CHANGES = "params.yaml", "dvc.lock", "changes.patch"
FOLDER = "origin"  # of the files, among a run's artifacts
DATA = ("acquire", "filter", "split", "features")  # stages
SOURCES = ("pipeline", "datasets", "dvc.yaml")  # what stages depend on, and git has
MAX_CHANGES = 2**20  # characters of a patch
CHANGED = "git.changed"
TOO_MUCH = "too much to keep"


def provenance() -> dict[str, str]:
    """DVC's experiment, the commit, and DVC's digests of the data."""
    baseline = os.environ.get("DVC_EXP_BASELINE_REV", "")
    return {
        EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""),
        BASELINE: baseline,
        COMMIT: baseline or (try_git("rev-parse", "HEAD") or "").strip(),
    } | outs(dvc_lock.read(), DATA)


def of_data(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of `provenance` that are the data's."""
    return {name: value for name, value in tags.items() if name.startswith("data.")}


def told(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of `provenance` that are known, as MLflow's copy of the report tells them."""
    named = {name: tags[name] for name in (EXPERIMENT, BASELINE, COMMIT) if tags[name]}
    return named | of_data(tags)


def everything(fingerprint: str) -> dict[str, str]:
    """All tags of a run that begins here and now."""
    facts = provenance()
    found = surroundings(facts[COMMIT])
    known = {name: value for name, value in found.items() if value}
    return facts | known | {FINGERPRINT: fingerprint}


def outs(lock: dvc_lock.Lock, stages: Sequence[str]) -> dict[str, str]:
    """DVC's digests of what stages made, by tag."""
    found = {path: md5 for stage in stages for path, md5 in dvc_lock.outs(lock, stage).items()}
    return {tag(path): md5 for path, md5 in found.items()}


def tag(path: str) -> str:
    """What the digest of an output is called: data.clean, or result.models."""
    kind = "data" if path.startswith("data/") else "result"
    return f"{kind}.{Path(path).stem}"


def surroundings(commit: str) -> dict[str, str]:
    """Who computes, on what, and with which changes that `commit` has not."""
    experiment = os.environ.get("DVC_EXP_NAME")
    return {
        CHANGED: changed(changes(commit)),
        "git.untracked": " ".join(_untracked())[:500],
        "env.host": socket.gethostname(),
        "env.machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_cpu()}",
        "env.python": platform.python_version(),
        "env.torch": importlib.metadata.version("torch"),
        "mlflow.user": _user(),
        "mlflow.source.name": "dvc exp run" if experiment else "dvc repro",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }


def files(commit: str) -> dict[str, str]:
    """Params, DVC's lock as the run found it, and what differs from `commit`; text by name."""
    found = {name: Path(name).read_text("utf-8") for name in (PARAMS, LOCK) if Path(name).exists()}
    patch = changes(commit)
    return found | ({CHANGES: patch} if 0 < len(patch) <= MAX_CHANGES else {})


def changed(patch: str) -> str:
    """Whether there is one, as a run tells it."""
    if len(patch) > MAX_CHANGES:
        return TOO_MUCH
    return "yes" if patch else "no"


def changes(commit: str, revision: str = "") -> str:
    """What the code and the descriptions of data sets have that `commit` has not, as a patch.

    Args:
        revision: Where they are looked at; "" for the working directory.
    """
    plainly = ["--no-ext-diff", "--no-textconv", "--no-color", "--binary"]
    between = [commit, *([revision] if revision else [])]
    if not commit:
        return ""
    known = try_git("diff", *plainly, *between, "--", *SOURCES) or ""
    return known if revision else known + _new_files(plainly)


def _new_files(plainly: Sequence[str]) -> str:
    """What git does not know, as a patch that adds it."""
    paths = _untracked()
    if sum(_size(path) for path in paths) > MAX_CHANGES:
        return " " * (MAX_CHANGES + 1)  # it is told as too much, and not read
    # git says with 1 that two files differ, as any does from none.
    alone = [*plainly, "--no-index", "--", os.devnull]
    return "".join(try_git("diff", *alone, path, expected_code=1) or "" for path in paths)


def _size(path: str) -> int:
    with suppress(OSError):  # it may be gone since it was listed
        return Path(path).stat().st_size
    return 0


def _untracked() -> list[str]:
    """What stages may depend on and git does not know."""
    listed = try_git("ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCES) or ""
    return [path for path in listed.split("\0") if path and Path(path).is_file()]


def _user() -> str:
    with suppress(OSError, KeyError):  # a container may run as a number without a name
        return getpass.getuser()
    return ""


def _cpu() -> str:
    """Such as ", AMD EPYC"; "" where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return ", " + line.partition(":")[2].strip()
    return ""
