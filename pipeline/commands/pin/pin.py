"""From what was acquired to a list that anybody can fetch again: datasets/<name>/photos.csv."""

from pathlib import Path
from typing import Any

from pipeline.core import atomic, dvc_lock, shards
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire import dataset_toml
from pipeline.stages.acquire.photo_list import COLUMNS
from pipeline.stages.acquire.web.content_store import ContentStore

FACTS = ["id", "label", "name", "split", "group", "owner", "licence", "title", "url", "page_url"]


def pin(folder: Path, raw: Path, lock: Path) -> Path:
    """Write down the photographs of `raw`, in their order, with the sha256 of each.

    Args:
        folder: datasets/<name>.
        lock: dvc.lock, which knows what `raw` was acquired for.

    Raises:
        PipelineError: `raw` is of another data set, or its photographs have no addresses.
    """
    described = dataset_toml.load(folder)
    if isinstance(described, dataset_toml.ArchiveDataset) and described.url:
        raise PipelineError(_archive(folder, described.url))
    if (name := _acquired(lock)) != folder.name:
        raise PipelineError(
            f"{raw} holds {name or 'nothing that dvc.lock knows'}, not {folder.name}: first "
            f"`dvc exp run -S dataset.name={folder.name}`"
        )
    rows = shards.columns(raw, FACTS).to_pylist()
    if without := [row["name"] for row in rows if row["url"] is None]:
        raise PipelineError(
            f"{len(without)} images of {raw} have no address to fetch them from, the first "
            f"{without[0]}: keep the files that they came from"
        )
    target = dataset_toml.pin_path(folder)
    atomic.write_csv(target, COLUMNS, [_row(row) for row in rows])
    return target


def _row(facts: dict[str, Any]) -> list[str]:
    renamed = facts | {
        "id": facts["name"].removeprefix(f"{facts['label']}/"),
        "sha256": facts["id"],
        "page": facts["page_url"],
    }
    return [renamed[column] or "" for column in COLUMNS]


def _acquired(lock: Path) -> str | None:
    """The data set that acquire last ran for."""
    dataset = dvc_lock.params(dvc_lock.read(lock), "acquire").get("dataset") or {}
    return dataset.get("name") if isinstance(dataset, dict) else None


def _archive(folder: Path, url: str) -> str:
    with ContentStore() as store:
        sha256 = store.find_sha256(url)
    what = f'sha256 = "{sha256}"' if sha256 else "a sha256, which acquire prints,"
    return (
        f"{folder} is an archive, whose photographs have no addresses: {what} in its dataset.toml "
        "pins it"
    )
