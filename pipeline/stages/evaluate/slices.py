"""Parts of the test set whose accuracy is reported separately."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.core import shards
from pipeline.core.split_csv import read_split
from pipeline.network.model_folder import Card
from pipeline.stages.evaluate.metrics import Selected

MAX_SOURCES = 8  # folders, and licences, of which the accuracy is told


def slices(facts: Sequence[dict[str, Any]], card: Card) -> dict[str, Selected]:
    """Images that may be harder or easier than the rest, by name.

    Args:
        facts: Of the test images: near_group, width, height, label, name, licence.
    """
    near = np.array([fact["near_group"] is not None for fact in facts])
    least = card.preprocess.resize
    small = np.array([min(fact["width"], fact["height"]) < least for fact in facts])
    pairs = {
        "near_duplicates": near,
        "no_near_duplicates": ~near,
        "enlarged": small,
        "not_enlarged": ~small,
    }
    for what, source in (("folder", _folder), ("licence", itemgetter("licence"))):
        sources = np.array([source(fact) or "none" for fact in facts])
        names, counts = np.unique(sources, return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:MAX_SOURCES]:
            pairs[f"{what} {names[place]}"] = sources == names[place]
    return {name: found for name, found in pairs.items() if 0 < found.sum() < len(facts)}


def _folder(fact: dict[str, Any]) -> str:
    """What lies between the class folder and the image: of a camera, say, or of a visit."""
    folders = PurePosixPath(fact["name"]).parent.parts
    return "/".join(folders[folders.index(fact["label"]) + 1 :]) if fact["label"] in folders else ""


def facts_of_test(clean: Path, split_csv: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What the clean shards say of the images `ids`, and their group of split.csv."""
    columns = ["id", "near_group", "width", "height", "label", "name", "licence"]
    known = {row["id"]: row for row in shards.columns(clean, columns).to_pylist()}
    groups = {row.id: row.group for row in read_split(split_csv)}
    return [known[key] | {"group": groups[key]} for key in ids]
