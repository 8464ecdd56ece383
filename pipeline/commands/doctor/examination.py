"""All checks of `pipeline doctor`, in their order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.commands.doctor import (
    cache_links,
    data_files,
    dvc_state,
    environment,
    git_head,
    hand_lists,
    leftovers,
    memos,
    mlflow_database,
    servers,
    tracked_files,
)
from pipeline.commands.doctor.cache_users import list_out_files
from pipeline.commands.doctor.finding import Finding
from pipeline.commands.doctor.quarantine import Quarantine
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.experiments import dvc
from pipeline.experiments.last_good_lock import mend
from pipeline.params import load_params


def examine(repair: bool) -> bool:
    """Print what is wrong, a line each; return whether nothing is left to do.

    Raises:
        DvcIsBusy: something is to be repaired while a DVC process is at work.
    """
    fixed = left = 0
    for finding in _findings(repair):
        print_line(finding.line())
        fixed += finding.is_fixed
        left += not finding.is_fixed
    print_line(f"doctor: {left or 'nothing'} wrong" + (f", {fixed} fixed" if fixed else ""))
    return not left


def _findings(repair: bool) -> Iterator[Finding]:
    yield from _examine_lock()
    yield from tracked_files.examine()
    yield from dvc_state.examine(repair)
    try:
        with dvc.exclusive() if repair else dvc.open_repo() as repo:
            yield from _examine_repo(repo, repair)
    except dvc.DvcIsBusy:
        raise
    except PipelineError as error:
        yield Finding(str(error))
    quarantine = Quarantine(Path(".dvc/tmp/quarantine")) if repair else None
    yield from memos.examine(Path(".cache"), quarantine)
    yield from hand_lists.examine(Path("datasets"))
    yield from mlflow_database.examine()
    yield from servers.examine_mlflow(_dataset())
    yield from servers.examine_shared_cache()
    yield from servers.examine_cluster()
    yield from leftovers.examine_clones()


def _dataset() -> str:
    """The name of the data set in params.yaml; that of an unused one if it cannot be read."""
    try:
        return load_params().dataset.name
    except PipelineError:  # `tracked_files` says why
        return "images"


def _examine_lock() -> Iterator[Finding]:
    """dvc.lock, which is mended also without --repair: nothing runs without it."""
    try:
        sentence = mend()
    except dvc.DvcIsBusy:
        raise
    except PipelineError as error:
        yield Finding(str(error))
        return
    if sentence:
        yield Finding(sentence, is_fixed=True)


def _examine_repo(repo: Any, repair: bool) -> Iterator[Finding]:
    tmp_dir, cache = Path(repo.tmp_dir), Path(repo.cache.local_cache_dir)
    places = data_files.make_quarantines(repo) if repair else data_files.Quarantines()
    yield from environment.examine(cache)
    yield from cache_links.examine(repo)
    yield from servers.examine_remote(repo)
    yield from leftovers.examine_rwlocks(tmp_dir, places.project)
    if running := dvc.running_processes(repo):
        print_line(f"DVC is at work (process {running[0]}): what it writes is left out")
    else:
        yield from git_head.examine()
        yield from leftovers.examine_project(tmp_dir, places.project)
        yield from leftovers.examine_cache(cache, places.cache)
    yield from data_files.examine_run_cache(repo, places)
    try:
        with dvc.errors_as_sentences("DVC cannot read the pipeline", "see `dvc status`"):
            files = list(list_out_files(repo))
    except PipelineError as error:
        yield Finding(str(error))
        files = []
    yield from data_files.examine_objects(repo, files, places)
    if not running:
        yield from data_files.examine_workspace(repo, files, places)
