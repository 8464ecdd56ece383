"""A statement about the model in the working directory, which must be a complete result of DVC."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.compute as pc
from pydantic import ValidationError

from pipeline import __version__
from pipeline.core import dvc_lock, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitTable, read_split
from pipeline.experiments import dvc_results, locked_packages, metrics_json
from pipeline.experiments.attestation import statement
from pipeline.experiments.attestation.files import describe, walk
from pipeline.experiments.attestation.statement import (
    Code,
    Dataset,
    Environment,
    Predicate,
    Statement,
)
from pipeline.experiments.dvc_results import METRICS, MODELS, DvcResult
from pipeline.params import first_error, load_params
from pipeline.tracking import provenance, stale_stages

TABLES = ("data/skipped.csv", "data/verdicts.csv", "data/split.csv", "data/leaks.csv")
RAW, CLEAN = "data/raw", "data/clean"
SPLIT = Path("data/split.csv")


def state(onnx: Path | None, signature: Path | None, run: str) -> Statement:
    """A statement about the model, its data, code and figures.

    Args:
        onnx: The model as ONNX, inside the project.
        signature: That of model-signing, inside the project.
        run: The id of the MLflow run, or "".

    Raises:
        PipelineError: the result is incomplete, or of other code, params or data than are here, or
            `verify` would refuse the statement: a file has a name that not every system can have.
    """
    try:
        return _state(onnx, signature, run)
    except ValidationError as error:
        why = first_error(error, Statement)
    raise PipelineError(f"no statement can be made: {why[:300]}")


def _state(onnx: Path | None, signature: Path | None, run: str) -> Statement:
    result = require_result()
    subject = [describe(path, f"{MODELS}/{name}") for name, path in walk(Path(MODELS))]
    if onnx is not None:
        subject.append(describe(onnx, _name_inside(onnx)))
    materials = [describe(path, path.as_posix()) for path in _list_materials()]
    if signature is not None:
        materials.append(describe(signature, _name_inside(signature)))
    predicate = Predicate(
        code=Code(commit=require_commit(result)),
        materials=materials,
        dataset=_describe_dataset(),
        metrics=metrics_json.parse(Path(METRICS).read_text("utf-8")),
        environment=_describe_environment(),
        run=run,
    )
    return statement.create(subject, predicate)


def require_result() -> DvcResult:
    """The result in the working directory.

    Raises:
        PipelineError: there is none, or its files are not those of dvc.lock.
    """
    result = dvc_results.workspace()
    if result is None:
        raise PipelineError("the workspace has no trained and tested model: `dvc repro` makes one")
    if result.stale:
        behind = stale_stages.describe(result.stale)
        raise PipelineError(
            f"the model is not of the present code, params and data ({behind}): "
            "run `dvc repro`, then attest its result"
        )
    outs = {
        path: md5
        for stage in result.lock
        for path, md5 in dvc_lock.outs(result.lock, stage).items()
    }
    for path in (MODELS, METRICS, RAW, CLEAN, *TABLES):
        if path not in outs or not Path(path).exists():
            raise PipelineError(f"{path} is not here: `dvc pull` or `dvc repro` brings it")
        if dvc_lock.digest(Path(path)) != outs[path]:
            raise PipelineError(f"{path} has changed since `dvc repro`: run that again")
    return result


def require_commit(result: DvcResult) -> str:
    """The commit of a result's code.

    Raises:
        PipelineError: the code here differs from it.
    """
    if provenance.read_patch(result.commit):
        raise PipelineError(
            f"the code or the data set differs from commit {result.commit[:8]}, which a statement "
            "names: commit the changes first"
        )
    return result.commit


def _list_materials() -> Iterator[Path]:
    for name in (provenance.PARAMS, provenance.LOCK, locked_packages.LOCK, METRICS, *TABLES):
        if not Path(name).exists():
            raise PipelineError(f"{name} is not here: `git checkout HEAD -- {name}` restores it")
        yield Path(name)
    for folder in (RAW, CLEAN):
        for _, path in walk(Path(folder)):
            yield path


def _name_inside(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError as error:
        raise PipelineError(f"{path} is outside the project: move it into it") from error


def _describe_dataset() -> Dataset:
    split = read_split(SPLIT)
    return Dataset(
        name=load_params(Path(provenance.PARAMS)).dataset.name,
        deviation=shards.read_deviation(Path(RAW)),
        images=len(split),
        splits=_count(split.splits.to_pylist()),
        classes=_count(split.labels.to_pylist()),
        licences=_count_licences(split),
    )


def _count_licences(split: SplitTable) -> dict[str, int]:
    """The number of images that are used, by licence."""
    facts = shards.columns(Path(CLEAN), ["id", "licence"])
    used = facts.filter(pc.is_in(facts.column("id"), split.ids.combine_chunks()))
    return _count(name or "" for name in used.column("licence").to_pylist())


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _describe_environment() -> Environment:
    tags = provenance.environment_tags("")
    return Environment(
        version=__version__,
        python=tags["env.python"],
        torch=tags["env.torch"],
        machine=tags["env.machine"],
        deviations=locked_packages.find_deviations(Path(locked_packages.LOCK).read_text("utf-8")),
    )
