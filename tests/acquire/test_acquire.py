import json
import zipfile
from pathlib import Path

import pytest

from pipeline import params, shards
from pipeline.acquire import __main__ as stage
from pipeline.errors import PipelineError
from pipeline.params import Acquire

LIMITS = Acquire(allow_private=False, max_gigabytes=1, max_file_megabytes=1)
AS_DESCRIBED = "datasets"
PHOTOS = {"cat/1.jpg": b"one", "cat/2.jpg": b"two", "dog/1.jpg": b"three"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a params.yaml."""
    shipped = params.load(Path(__file__).parent.parent.parent / "params.yaml")
    overrides = {f"acquire.{key}": value for key, value in LIMITS.model_dump().items()}
    chosen = params.with_overrides(shipped, overrides)
    (tmp_path / "params.yaml").write_text(json.dumps(chosen.model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def described(project: Path, *lines: str) -> Path:
    folder = project / "datasets" / "mine"
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text("\n".join(['description = "d"', *lines]))
    return folder


def photos(where: Path) -> Path:
    for name, data in PHOTOS.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_bytes(data)
    return where


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in PHOTOS.items():
            archive.writestr(name, data)
    return path


def acquired(folder: Path, source: str = AS_DESCRIBED) -> dict[str, bytes]:
    return {image.name: image.data for image in stage.acquire(folder, source, LIMITS)}


def refusal(folder: Path, source: str) -> str:
    with pytest.raises(PipelineError) as caught:
        acquired(folder, source)
    return str(caught.value)


def test_a_folder_is_found_beside_its_description(project: Path) -> None:
    folder = described(project, 'kind = "folder"', 'path = "photos"')
    photos(folder / "photos")
    assert acquired(folder) == PHOTOS


def test_an_archive_is_found_beside_its_description(project: Path) -> None:
    folder = described(project, 'kind = "archive"', 'path = "photos.zip"')
    zipped(folder / "photos.zip")
    assert acquired(folder) == PHOTOS


@pytest.mark.parametrize(
    "lines",
    [
        ['kind = "folder"'],
        ['kind = "folder"', 'path = "elsewhere"'],
        ['kind = "archive"', 'url = "https://example.org/a.zip"', f'sha256 = "{"0" * 64}"'],
    ],
)
@pytest.mark.parametrize("archived", [True, False])
def test_a_source_takes_the_place_of_what_is_described(
    project: Path, lines: list[str], archived: bool
) -> None:
    source = zipped(project / "my.zip") if archived else photos(project / "my photos")
    assert acquired(described(project, *lines), str(source)) == PHOTOS


def test_a_source_below_the_home_folder_is_found(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    photos(project / "pictures")
    assert acquired(described(project, 'kind = "folder"'), "~/pictures") == PHOTOS


def test_splits_are_those_of_the_description(project: Path) -> None:
    folder = described(project, 'kind = "folder"', "[splits]", 'val = "test"', 'train = "train"')
    for name in ("val", "train"):
        photos(project / "photos" / name)
    found = stage.acquire(folder, str(project / "photos"), LIMITS)
    assert {(image.name.split("/")[0], image.split) for image in found} == {
        ("val", "test"), ("train", "train"),
    }  # fmt: skip


def test_a_description_without_a_place_asks_for_a_source(project: Path) -> None:
    folder = described(project, 'kind = "folder"')
    assert refusal(folder, AS_DESCRIBED).startswith(
        f"{folder} needs to know where the photographs are: -S dataset.source=/absolute/path"
    )


def test_a_missing_source_is_named(project: Path) -> None:
    said = refusal(described(project, 'kind = "folder"'), "/nowhere/at/all")
    assert said == "/nowhere/at/all does not exist: give a folder or archive as dataset.source"


@pytest.mark.parametrize(
    "lines", [['kind = "digits"'], ['kind = "sample"', "images_per_class = 10", "seed = 1"]]
)
def test_a_data_set_that_makes_its_own_images_refuses_a_source(
    project: Path, lines: list[str]
) -> None:
    folder = described(project, *lines)
    assert refusal(folder, "/my/photos").startswith(
        f"dataset.source=/my/photos has no meaning for {folder}, which makes its own images: use"
    )


@pytest.mark.parametrize("source", ["http://127.0.0.1:1/a.zip", "https://127.0.0.1:1/a.zip"])
def test_a_source_can_be_a_url_under_the_rules_for_downloads(project: Path, source: str) -> None:
    said = refusal(described(project, 'kind = "folder"'), source)
    assert said.startswith(f"{source} leads to the private address 127.0.0.1")


def test_a_described_url_is_downloaded_under_the_rules(project: Path) -> None:
    folder = described(project, 'kind = "archive"', 'url = "http://localhost:1/a.zip"')
    said = refusal(folder, AS_DESCRIBED)
    assert said.startswith("http://localhost:1/a.zip leads to the private address")


def test_the_sample_needs_nothing_else(project: Path) -> None:
    folder = described(project, 'kind = "sample"', "images_per_class = 10", "seed = 1")
    first = next(stage.acquire(folder, AS_DESCRIBED, LIMITS))
    assert first.name == "bicycle/bicycle_0000.jpg"


def test_the_stage_writes_raw_shards_and_counts_labels(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = described(project, 'kind = "folder"', 'licence = "CC0-1.0"')
    stage.main(folder, str(photos(project / "photos")), project / "raw")
    table = shards.columns(project / "raw", shards.RAW.names)
    assert table.schema == shards.RAW
    assert dict(zip(table["name"].to_pylist(), table["bytes"].to_pylist(), strict=True)) == PHOTOS
    assert table["label"].to_pylist() == ["cat", "cat", "dog"]
    assert set(table["licence"].to_pylist()) == {"CC0-1.0"}
    assert capsys.readouterr().out == "acquire: 3 files (2 cat, 1 dog)\n"


def test_the_stage_writes_the_same_bytes_twice(project: Path) -> None:
    folder = described(project, 'kind = "folder"', 'path = "photos"')
    photos(folder / "photos")
    for name in ("first", "second"):
        stage.main(folder, AS_DESCRIBED, project / name)
    first, second = (shards.paths(project / name) for name in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_source_that_fails_leaves_the_old_shards(project: Path) -> None:
    folder = described(project, 'kind = "folder"', 'path = "photos"')
    photos(folder / "photos")
    stage.main(folder, AS_DESCRIBED, project / "raw")
    with pytest.raises(PipelineError):
        stage.main(folder, "/nowhere/at/all", project / "raw")
    assert len(shards.columns(project / "raw", ["id"])) == len(PHOTOS)
