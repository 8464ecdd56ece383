"""Write datasets/<name>/photos.csv: the list of acquired photographs."""

from pathlib import Path
from typing import Any

from pipeline.core import atomic, dvc_lock, shards
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.datasets import dataset_toml
from pipeline.params import AS_DESCRIBED
from pipeline.stages.acquire.photo_list import COLUMNS
from pipeline.stages.acquire.web.content_store import ContentStore

RAW_COLUMNS = [
    "id",
    "label",
    "name",
    "split",
    "group",
    "owner",
    "licence",
    "title",
    "url",
    "page_url",
]


def write_pin(folder: Path, raw: Path, lock: Path) -> Path:
    """Write the photographs of `raw`, in their order, each with its sha256.

    Args:
        folder: datasets/<name>.
        lock: dvc.lock, which records the data set that `raw` was acquired for.

    Raises:
        PipelineError: `raw` is of another data set, or has images without URLs.
    """
    dataset = dataset_toml.load(folder)
    if isinstance(dataset, dataset_toml.ArchiveDataset) and dataset.url:
        raise PipelineError(_archive_message(folder, dataset.url))
    if (name := _acquired_name(lock)) != folder.name:
        raise PipelineError(
            f"{raw} is of {name or 'a data set not in dvc.lock'}, not of {folder.name}: first "
            f"`{_command(folder)}`"
        )
    if deviation := shards.read_deviation(raw):
        raise PipelineError(
            f"{raw} does not have the images that {folder} describes ({deviation}): first "
            f"`{_command(folder)}`"
        )
    rows = shards.columns(raw, RAW_COLUMNS).to_pylist()
    if names := [row["name"] for row in rows if row["url"] is None]:
        raise PipelineError(
            f"{raw} has {plural(len(names), 'image')} without a URL, the first {names[0]}: only "
            "photographs with URLs can be pinned; keep the files that they came from"
        )
    pin = dataset_toml.pin_path(folder)
    atomic.write_csv(pin, COLUMNS, [_to_row(row) for row in rows])
    return pin


def _command(folder: Path) -> str:
    return f"dvc exp run -S dataset.name={folder.name} -S dataset.source={AS_DESCRIBED}"


def _to_row(image: dict[str, Any]) -> list[str]:
    photo = image | {
        "id": image["name"].removeprefix(f"{image['label']}/"),
        "sha256": image["id"],
        "page": image["page_url"],
    }
    return [photo[column] or "" for column in COLUMNS]


def _acquired_name(lock: Path) -> str | None:
    """The data set of the last run of acquire."""
    params = dvc_lock.params(dvc_lock.read(lock), "acquire").get("dataset") or {}
    return params.get("name") if isinstance(params, dict) else None


def _archive_message(folder: Path, url: str) -> str:
    with ContentStore() as store:
        sha256 = store.find_sha256(url)
    line = f'sha256 = "{sha256}"' if sha256 else "the sha256 that acquire prints"
    return (
        f"{folder} is an archive, and its photographs have no URLs: to pin it, add {line} "
        "to its dataset.toml"
    )
