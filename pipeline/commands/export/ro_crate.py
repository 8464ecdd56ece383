"""The run as an RO-Crate: its files, with what made them, in the profile Process Run Crate.

https://www.researchobject.org/ro-crate/ and https://www.researchobject.org/workflow-run-crate/
"""

import mimetypes
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline import __version__
from pipeline.commands.export import croissant
from pipeline.commands.export.croissant import DatasetSource
from pipeline.commands.export.preconditions import require_new
from pipeline.commands.export.salted_names import read_salt, salt_name
from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.core.split_csv import read_split, write_split
from pipeline.experiments import metrics_json
from pipeline.experiments.attestation.files import (
    ATTESTATION,
    MODEL_SIGNATURE,
    PUBLIC_KEY,
    STATEMENT,
    walk,
)
from pipeline.experiments.attestation.verification import verify
from pipeline.experiments.attestation.workspace import SPLIT as SPLIT_OF_RUN
from pipeline.experiments.dvc_results import METRICS, MODELS
from pipeline.inference import strict_json

METADATA, DATASET = "ro-crate-metadata.json", "dataset"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
LICENCES, PROGRAM, TRAINING = "#licences", "#image-pipeline", "#training"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
SPLIT = (
    "split.csv"  # not data/split.csv, which a statement has the digest of: these groups are salted
)
COPIES = ("params.yaml", "dvc.yaml", "dvc.lock", "requirements.lock")
INPUTS = (*COPIES, SPLIT)
RESULTS = (METRICS, "reports/history.csv", "reports/report.html")
TYPES = {
    ".yaml": "application/yaml",
    ".lock": "text/plain",
    ".safetensors": "application/octet-stream",
}

Entity = dict[str, Any]


def export(source: DatasetSource, commit: str, destination: Path) -> int:
    """Write a crate of the workspace's run into a new folder; return the number of its files.

    The groups of its split are salted, as in a split certificate.

    Args:
        commit: Of the code, which the workspace has.

    Raises:
        PipelineError: `destination` is not empty, a file of the run is missing, the split is not
            that of the run, or the attestation is damaged or of another model.
    """
    require_new(destination)
    for name in (*COPIES, *RESULTS):
        if not Path(name).is_file():
            raise PipelineError(f"{name} is missing: `dvc pull` or `dvc repro` brings it")
    _require_split_of_run(source.split_csv)
    attestation = _list_attestation()
    with atomic.replacing(destination) as staged:
        staged.mkdir()
        croissant.export(source, staged / DATASET)
        _write_split(source.split_csv, staged / SPLIT)
        models = (path for _, path in walk(Path(MODELS)))
        for path in (*map(Path, (*COPIES, *RESULTS)), *models, *attestation):
            _copy(path, staged / path)
        names = [name for name, _ in walk(staged)]
        metadata = describe(staged, names, source, commit)
        (staged / METADATA).write_bytes(strict_json.render(metadata))
    return len(names)


def _require_split_of_run(path: Path) -> None:
    """The crate says that the training read this split; its groups may have other names."""
    ours, theirs = read_split(path), read_split(SPLIT_OF_RUN)
    if any(getattr(ours, name) != getattr(theirs, name) for name in ("ids", "labels", "splits")):
        raise PipelineError(
            f"{path} is not the split of this run, which is in {SPLIT_OF_RUN}: train with it first"
        )


def _write_split(path: Path, target: Path) -> None:
    """A split with salted groups: the name of a group may be that of an owner or a patient."""
    salt = read_salt()
    write_split(
        target, (replace(row, group=salt_name(row.group, salt)) for row in read_split(path))
    )


def _list_attestation() -> list[Path]:
    """The files of the attestation; none if there is no attestation.

    Raises:
        PipelineError: it is damaged, or of another model.
    """
    folder = Path(ATTESTATION)
    if not folder.exists():
        return []
    try:
        differences = verify(Path(MODELS), folder, None, with_data=False).files.differences
    except (PipelineError, OSError) as error:
        differences = [str(error)]
    if differences:
        raise PipelineError(
            f"{folder} is not an attestation of this model ({differences[0]}): run "
            "`pipeline attest` again, or move the folder away"
        )
    names = (STATEMENT, PUBLIC_KEY, MODEL_SIGNATURE)
    return [folder / name for name in names if (folder / name).exists()]


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def describe(
    folder: Path, names: Sequence[str], source: DatasetSource, commit: str
) -> dict[str, Any]:
    """The metadata of a crate, as JSON-LD.

    Args:
        names: The paths of the files in `folder`.
    """
    figures = _describe_figures(folder)
    return {
        "@context": f"{SPECIFICATION}/context",
        "@graph": [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": SPECIFICATION},
            },
            _describe_root(names, source, figures),
            _describe_training(names, source),
            _describe_program(commit),
            _describe_licences(folder),
            {
                "@id": PROFILE,
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            },
            *figures,
            *_describe_files(folder, names),
        ],
    }


def _describe_figures(folder: Path) -> list[Entity]:
    metrics = metrics_json.parse((folder / METRICS).read_text("utf-8"))
    return [
        {"@id": f"#{quote(name)}", "@type": "PropertyValue", "name": name, "value": value}
        for name, value in metrics.items()
        if value is not None
    ]


def _describe_training(names: Sequence[str], source: DatasetSource) -> Entity:
    inputs = [name for name in names if name in INPUTS or name.startswith(f"{DATASET}/")]
    results = [name for name in names if name in RESULTS or name.startswith(f"{MODELS}/")]
    return {
        "@id": TRAINING,
        "@type": "CreateAction",
        "name": f"Training and evaluation on {source.folder.name}",
        "description": "The stages of dvc.yaml, with the values of params.yaml.",
        "instrument": {"@id": PROGRAM},
        "object": _references(inputs),
        "result": _references(results),
    }


def _describe_program(commit: str) -> Entity:
    return {
        "@id": PROGRAM,
        "@type": "SoftwareApplication",
        "name": "image-pipeline",
        "description": "A reproducible image-classification pipeline.",
        "softwareVersion": __version__,
        "identifier": f"git commit {commit}",
    }


def _describe_licences(folder: Path) -> Entity:
    return {
        "@id": LICENCES,
        "@type": "CreativeWork",
        "name": "Licences of the images",
        "description": ", ".join(_read_licences(folder)) or "none is stated",
    }


def _read_licences(folder: Path) -> list[str]:
    """URLs of licences, or names of those without one."""
    licences = strict_json.parse((folder / DATASET / croissant.METADATA).read_bytes())["license"]
    return licences if isinstance(licences, list) else []


def _describe_root(names: Sequence[str], source: DatasetSource, figures: list[Entity]) -> Entity:
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"An image classifier for {source.folder.name}",
        "description": "A trained model with its data set, params, code's commit and test result.",
        "datePublished": source.date,
        "license": {"@id": LICENCES},
        "conformsTo": {"@id": PROFILE},
        "hasPart": _references(names),
        "mentions": {"@id": TRAINING},
        "variableMeasured": [{"@id": figure["@id"]} for figure in figures],
    }


def _references(names: Sequence[str]) -> list[Entity]:
    return [{"@id": quote(name)} for name in names]


def _describe_files(folder: Path, names: Sequence[str]) -> Iterator[Entity]:
    for name in names:
        path = folder / name
        guess = TYPES.get(path.suffix) or mimetypes.guess_type(name)[0]
        yield {
            "@id": quote(name),
            "@type": "File",
            "name": name,
            "contentSize": str(path.stat().st_size),
            "encodingFormat": guess or "application/octet-stream",
            "sha256": sha256(path),
        }
