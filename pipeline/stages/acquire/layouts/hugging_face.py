"""Hugging Face's metadata of a Parquet file: kinds of columns, and names of classes."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa


def read_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """What Hugging Face's metadata says of each column.

    Source: https://huggingface.co/docs/datasets, Features and ClassLabel
    """
    try:
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):  # another program's
        return {}
    features = _section(_section(metadata, "info"), "features")
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _section(metadata: object, key: str) -> dict[str, object]:
    """What JSON has under a key; empty if that is missing or no object."""
    section = metadata.get(key) if isinstance(metadata, dict) else None
    return section if isinstance(section, dict) else {}


def read_class_names(features: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, str]]:
    """Number of a class -> its name, of each column that has classes."""
    names = {}
    for column, feature in features.items():
        if feature.get("_type") == "ClassLabel" and (numbered := _numbered(feature.get("names"))):
            names[column] = numbered
    return names


def _numbered(names: object) -> dict[int, str]:
    """Number -> name, of a list of names or of a table of either to the other."""
    if isinstance(names, list):
        return dict(enumerate(map(str, names)))
    pairs = list(names.items()) if isinstance(names, dict) else []
    if all(isinstance(number, int) for _, number in pairs):
        return {number: name for name, number in pairs}
    if all(number.isdecimal() for number, _ in pairs):
        return {int(number): str(name) for number, name in pairs}
    return {}
