"""Make a run again from its id."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.commands.reproduce import clone
from pipeline.commands.reproduce.verdict import Reproduction, compare_with_run
from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of
from pipeline.core.plurals import plural
from pipeline.core.terminal import printable
from pipeline.experiments.dvc_results import (
    MODELS,
    TEST,
    DvcResult,
    dvc_results,
    results_with_model,
)
from pipeline.experiments.paired_runs import is_run_of
from pipeline.params import DatasetParams
from pipeline.tracking import provenance, store
from pipeline.tracking.store import MlflowRun


@dataclass(frozen=True)
class ReproduceRequest:
    from_stage: str = ""
    """Compute from this stage on, even if the results are in the cache; "": only what is not."""
    tolerance: float = 0.01
    """Of accuracy and loss."""
    allow_changes: bool = False
    """Whether to run code that only the run's artifacts contain."""


def reproduce(run: MlflowRun, folder: Path, request: ReproduceRequest) -> Reproduction:
    """Make a run again in `folder`, which is replaced.

    Raises:
        PipelineError: the run's commit or files are not available, or DVC fails.
    """
    digests = _prepare(run, folder, request.allow_changes)
    stages = list(_load_yaml(folder / "dvc.yaml")["stages"])
    if request.from_stage and request.from_stage not in stages:
        raise PipelineError(f"there is no stage {request.from_stage}: {', '.join(stages)}")
    clone.restore_outputs(folder)
    has_source = (folder / _read_source(folder)).exists()
    # Without the source, stages whose outputs are in the cache need not run.
    computed = clone.run(folder, "repro", *(() if has_source else ("--allow-missing",)))
    _require_outputs(folder)
    if request.from_stage:
        requested = stages[stages.index(request.from_stage) :]
        if not set(requested) - {"describe"} <= set(computed):
            options = ("--force", "--no-run-cache", "--downstream", request.from_stage)
            computed += clone.run(folder, "repro", *options)
    return compare_with_run(run, digests, folder, computed, request.tolerance)


def _prepare(run: MlflowRun, folder: Path, allow_changes: bool) -> dict[str, str]:
    """Check out the code, params and lock of a run; return its digests of outputs, by tag."""
    tags = run.data.tags
    if provenance.MODELS not in tags:
        raise PipelineError(
            f"run {run.info.run_id[:8]} ended before it had a model: there is nothing to compare"
        )
    # Files that were untracked are in no commit, only in the run's patch.
    result = None if tags.get("git.untracked") else _find_result(run)
    if result is None:
        _check_out_artifacts(run, folder, allow_changes)
        return dict(tags)
    clone.check_out(folder, result.revision)
    clone.link_source(folder, str(result.params["dataset.source"]))
    return provenance.digest_tags(result.lock, list(result.lock)) | tags


def _find_result(run: MlflowRun) -> DvcResult | None:
    """The experiment or commit with the result of the run."""
    tags = run.data.tags
    for result in chain(dvc_results(), results_with_model(tags[provenance.MODELS])):
        is_same_test = result.test_md5 == tags.get(provenance.TEST, result.test_md5)
        if result.revision and is_same_test and is_run_of(result, run):
            return result
    return None


def _check_out_artifacts(run: MlflowRun, folder: Path, allow_changes: bool) -> None:
    """Check out the run's commit with the params, lock and patch from the run's artifacts."""
    commit = _find_commit(run)
    texts = {name: _fetch(run, name) for name in (provenance.PARAMS, provenance.LOCK)}
    is_changed = run.data.tags.get(provenance.CHANGED) == "yes"
    patch = _fetch(run, provenance.CHANGES) if is_changed else ""
    if patch and not allow_changes:
        raise PipelineError(
            f"run {run.info.run_id[:8]} has {plural(len(patch.splitlines()), 'line')} of changes "
            f"of its code, in no commit here ({provenance.FOLDER}/{provenance.CHANGES}): read "
            "them, and allow them to run with --with-changes"
        )
    clone.check_out(folder, commit)
    clone.write_files(folder, {name: text for name, text in texts.items() if text}, patch)
    clone.link_source(folder, _read_source(folder))


def _find_commit(run: MlflowRun) -> str:
    """The commit of the run's code.

    Raises:
        PipelineError: it is not here, or is not all of the code.
    """
    tags, run_id = run.data.tags, run.info.run_id[:8]
    if tags.get(provenance.CHANGED) == provenance.TOO_MUCH:
        raise PipelineError(
            f"run {run_id} had uncommitted code too large to record: it cannot be made again from "
            "its commit alone"
        )
    commit = printable(tags.get(provenance.COMMIT, ""))
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or not commit_of(commit):
        host = printable(tags.get("env.host", "unknown"))
        raise PipelineError(
            f"commit {commit or 'unknown'} of run {run_id} is not here: git fetch it, or "
            f"ask whoever made the run (env.host is {host})"
        )
    return commit


def _read_source(folder: Path) -> str:
    """dataset.source; other params may be those of another version of the code.

    Raises:
        PipelineError: params.yaml has none.
    """
    try:
        params = _load_yaml(folder / provenance.PARAMS)
        section = params.get("dataset") if isinstance(params, dict) else None
        return str(DatasetParams.model_validate(section).source)
    except (OSError, YAMLError, ValidationError) as error:
        raise PipelineError(f"{provenance.PARAMS} of the run has no valid dataset") from error


def _load_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def _require_outputs(folder: Path) -> None:
    missing = [path for path in (MODELS, TEST) if not (folder / path).exists()]
    if missing:
        raise PipelineError(
            f"{' and '.join(missing)} of the run are neither in DVC's cache nor in its remote, and "
            "the images they were made from are not here: ask whoever made the run to `dvc push`"
        )


def _fetch(run: MlflowRun, name: str) -> str:
    return store.load_text(run.info.run_id, f"{provenance.FOLDER}/{name}")


def tag_run(reproduction: Reproduction) -> None:
    """Record the verdict in the run, as the tag `reproduced`."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    computed = [stage.name for stage in reproduction.stages if stage.is_computed]
    action = f"computed {', '.join(computed)}" if computed else "restored"
    store.set_tag(reproduction.run_id, "reproduced", f"{day}, {action}: {reproduction.verdict()}")
