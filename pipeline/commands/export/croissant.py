"""The data set in Croissant's format: what it is, and a table of its images.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.export.preconditions import require_new, require_split
from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.core.split_csv import read_split
from pipeline.datasets import dataset_toml
from pipeline.datasets.licences import licence_url
from pipeline.inference import strict_json

METADATA, TABLE = "croissant.json", "images.csv"
COLUMNS = {
    "id": "The sha256 of the image's file.",
    "label": "The class.",
    "split": "train, val or test.",
    "name": "The name of the file in the source.",
    "licence": "As the source states it.",
    "owner": "The author, for attribution.",
    "title": "By the author, for attribution.",
    "url": "Where the file was downloaded.",
    "page_url": "The page of the photograph.",
}
RAW_COLUMNS = ["id", "name", "licence", "owner", "title", "url", "page_url"]
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True)
class DatasetSource:
    """Where the facts of a data set are."""

    folder: Path
    """datasets/<name>."""
    raw: Path
    split_csv: Path
    date: str
    """Of publication, ISO 8601."""


def export(source: DatasetSource, destination: Path) -> int:
    """Write croissant.json and images.csv into a new folder; return the number of images.

    The images themselves are not copied: their licences may forbid it.

    Raises:
        PipelineError: `destination` is not empty, or there is no split yet.
    """
    require_new(destination)
    require_split(source.split_csv)
    with atomic.replacing(destination) as staged:
        staged.mkdir()
        rows = list(_rows(source))
        atomic.write_csv(staged / TABLE, list(COLUMNS), rows)
        licences = sorted({str(row[list(COLUMNS).index("licence")]) for row in rows} - {""})
        metadata = describe(source, licences, sha256(staged / TABLE))
        (staged / METADATA).write_bytes(strict_json.render(metadata))
    return len(rows)


def _rows(source: DatasetSource) -> Iterator[list[str]]:
    facts = {row["id"]: row for row in shards.columns(source.raw, RAW_COLUMNS).to_pylist()}
    for image in read_split(source.split_csv):
        if image.id not in facts:
            raise PipelineError(
                f"{source.split_csv} is older than {source.raw}: run `dvc repro` first"
            )
        row = facts[image.id] | {"label": image.label, "split": image.split}
        yield [row[name] or "" for name in COLUMNS]


def describe(source: DatasetSource, licences: list[str], table_digest: str) -> dict[str, Any]:
    """The metadata, as JSON-LD.

    Args:
        licences: The names of the images' licences.
        table_digest: sha256 of images.csv.
    """
    deviation = shards.read_deviation(source.raw)
    description = dataset_toml.load(source.folder).description
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": source.folder.name,
        "description": f"{description} ({deviation})" if deviation else description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": [licence_url(name) or name for name in licences] or "not stated",
        "datePublished": source.date,
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": TABLE,
                "name": TABLE,
                "description": "The images that are used: where they come from, class and split.",
                "contentUrl": TABLE,
                "encodingFormat": "text/csv",
                "sha256": table_digest,
            }
        ],
        "recordSet": [_describe_splits(), _describe_images()],
    }


def _describe_splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The parts of the data set.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "splits/name",
                "name": "name",
                "description": "The name of the split.",
                "dataType": "sc:Text",
            }
        ],
        "data": [{"splits/name": name} for name in shards.SPLITS],
    }


def _describe_images() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "A record per image.",
        "key": {"@id": "images/id"},
        "field": [_describe_column(name) for name in COLUMNS],
    }


def _describe_column(name: str) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": COLUMNS[name],
        "dataType": "sc:Text",
        "source": {"fileObject": {"@id": TABLE}, "extract": {"column": name}},
    }
    if name == "split":
        field["references"] = {"field": {"@id": "splits/name"}}
    return field
