"""From what was acquired to a list that anybody can fetch again: datasets/<name>/photos.csv."""

from pathlib import Path
from typing import Any

from pipeline import atomic, locked, shards
from pipeline.acquire import dataset as datasets
from pipeline.acquire.photos import COLUMNS
from pipeline.acquire.web.store import Store
from pipeline.errors import PipelineError

FACTS = ["id", "label", "name", "split", "group", "owner", "licence", "title", "url", "page_url"]


def pin(folder: Path, raw: Path, lock: Path) -> Path:
    """Write down the photographs of `raw`, in their order, with the sha256 of each.

    Args:
        folder: datasets/<name>.
        lock: dvc.lock, which knows what `raw` was acquired for.

    Raises:
        PipelineError: `raw` is of another data set, or its photographs have no addresses.
    """
    described = datasets.load(folder)
    if isinstance(described, datasets.Archive) and described.url:
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
    target = datasets.pinned(folder)
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
    dataset = locked.params(locked.read(lock), "acquire").get("dataset") or {}
    return dataset.get("name") if isinstance(dataset, dict) else None


def _archive(folder: Path, url: str) -> str:
    with Store() as store:
        sha256 = store.recorded(url)
    what = f'sha256 = "{sha256}"' if sha256 else "a sha256, which acquire prints,"
    return (
        f"{folder} is an archive, whose photographs have no addresses: {what} in its dataset.toml "
        "pins it"
    )
