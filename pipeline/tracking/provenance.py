"""The origin of a model, as tags and files of its run: enough to reproduce it."""

import getpass
import importlib.metadata
import os
import platform
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core import atomic, dvc_lock, project
from pipeline.core.git import text_at, try_git

COMMIT, EXPERIMENT, BASELINE = "git.commit", "dvc.experiment", "dvc.baseline"
FINGERPRINT, MODELS, TEST = "model.fingerprint", "result.models", "result.test"
HOST, CLONE = "env.host", "env.clone"
STALE = "dvc.stale"  # stages whose outs were of an earlier state
DATASET = "dataset.name"  # a param, and the name of MLflow's experiment
DEVIATION = "dataset.deviation"  # how the images differ from those of that data set
PARAMS, LOCK, CHANGES = "params.yaml", "dvc.lock", "changes.patch"
FOLDER = "origin"  # of a run's artifacts that has the files
DATA = ("acquire", "filter", "split", "features")  # stages
DATASETS = "datasets"
SOURCES = ("pipeline", DATASETS, "dvc.yaml")  # the deps of stages that git tracks
MAX_CHANGES = 2**20  # characters of a patch
CHANGED = "git.changed"
TOO_MUCH = "too much to keep"
DIFF_OPTIONS = ("--no-ext-diff", "--no-textconv", "--no-color", "--binary")


def source_tags(lock: dvc_lock.Lock | None = None) -> dict[str, str]:
    """DVC's experiment, the commit, and DVC's digests of the data.

    Args:
        lock: The present dvc.lock, for whoever has parsed it, which takes 0.2 s.
    """
    baseline = os.environ.get("DVC_EXP_BASELINE_REV", "")
    return {
        EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""),
        BASELINE: baseline,
        COMMIT: baseline or (try_git("rev-parse", "HEAD") or "").strip(),
    } | digest_tags(dvc_lock.read() if lock is None else lock, DATA)


def data_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with digests of the data."""
    return {name: value for name, value in tags.items() if name.startswith("data.")}


def known_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of `source_tags` that are not empty, for MLflow's copy of the report."""
    names = {name: tags[name] for name in (EXPERIMENT, BASELINE, COMMIT) if tags[name]}
    return names | data_tags(tags)


def run_tags(
    fingerprint: str, deviation: str = "", lock: dvc_lock.Lock | None = None
) -> dict[str, str]:
    """All tags of a run that starts now; `deviation` is that of its images, "" for none."""
    sources = source_tags(lock)
    environment = environment_tags(sources[COMMIT])
    nonempty = {name: value for name, value in environment.items() if value}
    return sources | nonempty | {FINGERPRINT: fingerprint} | deviation_tags(deviation)


def deviation_tags(deviation: str) -> dict[str, str]:
    """The tag of a run whose images are not those of its data set."""
    return {DEVIATION: deviation} if deviation else {}


def digest_tags(lock: dvc_lock.Lock, stages: Sequence[str]) -> dict[str, str]:
    """DVC's digests of the outs of stages, by tag."""
    outs = {path: md5 for stage in stages for path, md5 in dvc_lock.outs(lock, stage).items()}
    return {digest_tag(path): md5 for path, md5 in outs.items()}


def digest_tag(path: str) -> str:
    """The tag of an out's digest, such as data.clean or result.models."""
    kind = "data" if path.startswith("data/") else "result"
    return f"{kind}.{Path(path).stem}"


def environment_tags(commit: str) -> dict[str, str]:
    """The user, the machine, the versions, and whether the code differs from `commit`."""
    experiment = os.environ.get("DVC_EXP_NAME")
    return {
        CHANGED: describe_patch(read_patch(commit)),
        "git.untracked": " ".join(_untracked())[:500],
        HOST: socket.gethostname(),
        CLONE: clone_id(),
        "env.machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{_cpu()}",
        "env.python": platform.python_version(),
        "env.torch": importlib.metadata.version("torch"),
        "mlflow.user": _user(),
        "mlflow.source.name": "dvc exp run" if experiment else "dvc repro",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
    }


def clone_id() -> str:
    """What tells the runs of this folder from those of other clones: chance, kept in .cache."""
    path = project.cache() / "clone"
    with suppress(FileNotFoundError):
        return path.read_text()
    with atomic.replacing(path) as staged:
        staged.write_text(secrets.token_hex(8))
    return path.read_text()


def read_files(commit: str) -> dict[str, str]:
    """params.yaml, dvc.lock and the patch against `commit`: text by name."""
    texts = {name: Path(name).read_text("utf-8") for name in (PARAMS, LOCK) if Path(name).exists()}
    patch = read_patch(commit)
    return texts | ({CHANGES: patch} if 0 < len(patch) <= MAX_CHANGES else {})


def describe_patch(patch: str) -> str:
    """The value of the tag CHANGED."""
    if len(patch) > MAX_CHANGES:
        return TOO_MUCH
    return "yes" if patch else "no"


def read_patch(commit: str, revision: str = "") -> str:
    """The patch of the code and of the data set's files from `commit` to another state.

    Args:
        revision: The other state; "" for the working directory.
    """
    if not commit:
        return ""
    revisions = [commit, *([revision] if revision else [])]
    tracked = try_git("diff", *DIFF_OPTIONS, *revisions, "--", *_sources(revision)) or ""
    return tracked if revision else tracked + _patch_of_untracked()


def _sources(revision: str = "") -> tuple[str, ...]:
    """SOURCES, of the data sets only the one that params.yaml names: others may be unfinished."""
    try:
        text = text_at(revision, PARAMS) if revision else Path(PARAMS).read_text("utf-8")
        name = YAML(typ="safe", pure=True).load(text or "")["dataset"]["name"]
    except (OSError, ValueError, YAMLError, RecursionError, LookupError, TypeError):
        return SOURCES
    return tuple(f"{path}/{name}" if path == DATASETS else path for path in SOURCES)


def _patch_of_untracked() -> str:
    """A patch that adds the files which git does not track."""
    paths = _untracked()
    if sum(_size(path) for path in paths) > MAX_CHANGES:
        return " " * (MAX_CHANGES + 1)  # longer than the maximum, without reading the files
    # Exit code 1: the files differ, as every file does from an empty one.
    options = [*DIFF_OPTIONS, "--no-index", "--", os.devnull]
    return "".join(try_git("diff", *options, path, expected_code=1) or "" for path in paths)


def _size(path: str) -> int:
    with suppress(OSError):  # it may be gone since it was listed
        return Path(path).stat().st_size
    return 0


def _untracked() -> list[str]:
    """The files of the code and of the data set that git neither tracks nor ignores."""
    paths = try_git("ls-files", "--others", "--exclude-standard", "-z", "--", *_sources()) or ""
    return [path for path in paths.split("\0") if path and Path(path).is_file()]


def _user() -> str:
    with suppress(OSError, KeyError):  # a container may run as a number without a name
        return getpass.getuser()
    return ""


def _cpu() -> str:
    """Such as ", AMD EPYC"; "" where the system has no /proc/cpuinfo."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return ", " + line.partition(":")[2].strip()
    return ""
