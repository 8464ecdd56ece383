"""The last good dvc.lock of the working directory: kept aside, and put back after a kill."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core import atomic
from pipeline.core.dvc_lock import LOCK
from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of, text_at, try_git
from pipeline.experiments import dvc
from pipeline.experiments.lock_damage import Outs, find_defect, find_loss, has_conflict

COPIES = Path(".cache/dvc_lock")
"""Holds one file: the last good dvc.lock, named after the commit that was checked out."""
NO_STAGES = b"schema: '2.0'\n"  # the copy of a missing dvc.lock: somebody starts anew


class GoodLock(NamedTuple):
    text: bytes
    origin: str
    """Where it is from, in words."""


def mend() -> str:
    """Put back the last good dvc.lock if the file is cut off; keep a copy of a good one.

    Returns:
        What was done, in a sentence; "" if the file is good.

    Raises:
        PipelineError: it has merge conflicts, no good one is known, or DVC may be writing it.
    """
    if _is_kept() or not _check():
        return ""
    with dvc.exclusive():  # which DVC holds while it writes the file
        problem = _check()
        return _replace(problem) if problem else ""


def _is_kept() -> bool:
    """Whether dvc.lock equals the copy, which is the fast way: nothing is parsed."""
    text = _read()
    return bool(text) and any(copy.read_bytes() == text for copy in COPIES.glob("*.lock"))


def _check() -> str:
    """What is wrong with dvc.lock, as the end of a sentence; if nothing, a copy is kept."""
    text = _read()
    if has_conflict(text or b""):
        raise PipelineError(
            f"{LOCK} has merge conflicts: take one side with `git checkout --ours {LOCK}` or "
            "`--theirs`, and `dvc repro` runs what has changed"
        )
    if text is None:
        _keep(NO_STAGES)
        return ""
    last_good = next(_good_locks(), GoodLock(b"", ""))
    defect = find_defect(text)
    loss = "" if defect or _is_in_git() else find_loss(text, last_good.text, read_outs())
    if not (defect or loss):
        _keep(text)
    return defect or (loss if last_good.text else "")  # else DVC makes what is lost anew


def _is_in_git() -> bool:
    """Whether git has this very file, as of another branch, with fewer stages."""
    blob = try_git("hash-object", str(LOCK))
    return blob is not None and try_git("cat-file", "-e", blob.strip()) is not None


def _replace(problem: str) -> str:
    last_good = next((lock for lock in _good_locks() if lock.text != NO_STAGES), None)
    if last_good is None:
        raise PipelineError(
            f"{LOCK} {problem}, and no good one is known: move it away (`mv {LOCK} {LOCK}.broken`),"
            " and `dvc repro` makes it anew"
        )
    aside = _copy_aside()
    with atomic.replacing(LOCK) as staged:
        staged.write_bytes(last_good.text)
    return (
        f"{LOCK} {problem}, as a kill leaves it: it is kept as {aside}, and {last_good.origin} is "
        "put back; `dvc repro` runs what has changed since"
    )


def _copy_aside() -> Path:
    """A copy of dvc.lock beside it, under a name that is free."""
    for number in count(1):
        path = LOCK.with_name(f"{LOCK}.broken-{number}")
        try:
            with path.open("xb") as file:
                file.write(LOCK.read_bytes())
        except FileExistsError:
            continue
        return path
    raise AssertionError("count() never ends")


def _good_locks() -> Iterator[GoodLock]:
    """The locks that DVC can read and that belong to the checked-out commit, the newest first."""
    commit = commit_of("HEAD")
    copy = _copy_of(commit)
    if copy.exists() and _is_good(copy.read_bytes()):
        yield GoodLock(copy.read_bytes(), "the copy of the last good one")
    text = (commit and text_at(commit, str(LOCK))) or ""
    committed = text.encode("utf-8", "surrogateescape")
    if commit and _is_good(committed):
        yield GoodLock(committed, f"that of commit {commit[:7]}")


def _is_good(text: bytes) -> bool:
    return not (has_conflict(text) or find_defect(text))


def _keep(text: bytes) -> None:
    copy = _copy_of(commit_of("HEAD"))
    with atomic.replacing(copy) as staged:
        staged.write_bytes(text)
    for other in COPIES.glob("*.lock"):
        if other != copy:
            other.unlink(missing_ok=True)


def _copy_of(commit: str | None) -> Path:
    return COPIES / f"{commit or 'no-commit'}.lock"


def _read() -> bytes | None:
    return LOCK.read_bytes() if LOCK.exists() else None


def read_outs() -> Outs:
    """The outs of each stage of dvc.yaml; none if it cannot be read, which DVC reports."""
    try:
        content = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))
    except (YAMLError, OSError, ValueError):
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    return {
        name: frozenset(_paths(stage.get("do", stage)))  # "do" is what `foreach` repeats
        for name, stage in (stages if isinstance(stages, dict) else {}).items()
        if isinstance(stage, dict)
    }


def _paths(stage: object) -> Iterator[str]:
    """Paths of outs, metrics and plots; an entry is a path, or a mapping of it to options."""
    for key in ("outs", "metrics", "plots"):
        entries = stage.get(key) if isinstance(stage, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            yield from entry if isinstance(entry, dict) else [str(entry)]
