import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.export import croissant
from pipeline.commands.export.croissant import METADATA, TABLE, DatasetSource
from pipeline.core import csv_cells, shards
from pipeline.core.errors import PipelineError
from pipeline.core.file_digests import sha256
from pipeline.core.split_csv import SplitRow, write_split
from tests import ROOT
from tests.builders import validators

DESTINATION = Path("dataset")
SOURCE = DatasetSource(ROOT / "datasets/sample", Path("raw"), Path("split.csv"), "2026-01-31")
HOSTILE = '=cmd|"/c calc"!A1,\n"\u202e</script>'


def row(number: int, **facts: Any) -> dict[str, Any]:
    usual = {"id": f"{number:064x}", "label": "source's", "name": f"{number}.jpg", "bytes": b"x"}
    return usual | facts


def export(*rows: dict[str, Any], deviation: str = "") -> dict[str, Any]:
    shards.write(SOURCE.raw, shards.with_deviation(shards.RAW, deviation), rows)
    ids = sorted({str(row["id"]) for row in rows})
    write_split(SOURCE.split_csv, [SplitRow(key, "cat", "train", "") for key in ids])
    assert croissant.export(SOURCE, DESTINATION) == len(ids)
    metadata: dict[str, Any] = json.loads((DESTINATION / METADATA).read_text())
    return metadata


def read_table() -> list[dict[str, str]]:
    with (DESTINATION / TABLE).open(encoding="utf-8", newline="") as file:
        return [dict(cells) for cells in csv_cells.DictReader(file)]


@pytest.mark.usefixtures("world")
def test_the_table_has_the_images_that_are_used_with_their_sources() -> None:
    url = "https://live.example.org/1.jpg"
    metadata = export(row(1, licence="CC BY 4.0", owner="Jo", title="T", url=url), row(2), row(2))
    first, second = read_table()
    assert first == {
        "id": f"{1:064x}",
        "label": "cat",
        "split": "train",
        "name": "1.jpg",
        "title": "T",
        "licence": "CC BY 4.0",
        "owner": "Jo",
        "url": url,
        "page_url": "",
    }
    assert second["licence"] == ""
    assert metadata["license"] == ["https://creativecommons.org/licenses/by/4.0/"]
    assert (metadata["name"], metadata["datePublished"]) == ("sample", "2026-01-31")


@pytest.mark.usefixtures("world")
def test_the_description_fits_the_table() -> None:
    metadata = export(row(1))
    (table,) = metadata["distribution"]
    assert table["sha256"] == sha256(DESTINATION / table["contentUrl"])
    _, images = metadata["recordSet"]
    columns = [field["source"]["extract"]["column"] for field in images["field"]]
    with (DESTINATION / TABLE).open(newline="") as file:
        assert next(csv.reader(file)) == columns
    assert metadata["license"] == "not stated"


@pytest.mark.usefixtures("world")
def test_other_images_than_the_data_sets_are_described() -> None:
    assert export(row(1), deviation="of another folder")["description"].endswith(
        " (of another folder)"
    )


@pytest.mark.usefixtures("world")
def test_texts_of_strangers_stay_texts() -> None:
    metadata = export(row(1, licence=HOSTILE, title=HOSTILE, name=HOSTILE))
    assert read_table()[0]["title"] == HOSTILE
    assert metadata["license"] == [HOSTILE]
    assert (DESTINATION / METADATA).read_text().isascii()


@pytest.mark.usefixtures("world")
def test_data_of_another_run_and_a_full_folder_are_refused() -> None:
    with pytest.raises(PipelineError, match="is missing"):
        croissant.export(SOURCE, DESTINATION)
    export(row(1))
    with pytest.raises(PipelineError, match="not empty"):
        croissant.export(SOURCE, DESTINATION)
    write_split(SOURCE.split_csv, [SplitRow("f" * 64, "cat", "train", "")])
    with pytest.raises(PipelineError, match="older than"):
        croissant.export(SOURCE, Path("other"))
    assert not Path("other").exists()


@pytest.mark.usefixtures("world")
def test_the_official_validator_accepts_it() -> None:
    export(row(1, licence="CC BY 4.0"), row(2, title=HOSTILE))
    result = validators.run("mlcroissant", "validate", "--jsonld", str(DESTINATION / METADATA))
    assert result.returncode == 0, result.stderr
    assert "error(s)" not in result.stderr
