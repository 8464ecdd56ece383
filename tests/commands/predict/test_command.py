import io
import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner, Result

from pipeline.__main__ import app
from pipeline.core import shards
from tests.builders.models import scale_head

pytestmark = pytest.mark.usefixtures("warm_workers")


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments], input=stdin)


def records(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def photos(models: Path, dataset: Path) -> list[Path]:
    """Some stripes, some not, in a folder, by their class and number."""
    rows = shards.columns(dataset / "clean", ["label", "bytes"]).to_pylist()
    folder = Path("photos")
    folder.mkdir()
    paths = [folder / f"{row['label']}_{number}.png" for number, row in enumerate(rows)]
    for path, row in zip(paths, rows, strict=True):
        path.write_bytes(row["bytes"])
    return sorted(paths)


def test_a_row_for_each_and_failure_if_any_failed(photos: list[Path]) -> None:
    result = run("photos")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in photos]
    right = [Path(path).name.startswith(label) for path, label, _ in rows]
    assert np.mean(right) > 0.9
    Path("photos/text.jpg").write_text("hello")
    result = run("photos", "--format", "json", "--top-k", "2")
    assert result.exit_code == 1
    assert Counter(row["problem"] for row in records(result)) == {None: 48, "not_an_image": 1}
    assert {len(row["top"]) for row in records(result) if row["label"]} == {2}  # type: ignore[arg-type]


def test_it_says_the_same_of_folders_archives_names_and_bytes(photos: list[Path]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in photos:
            archive.write(path, path.name)
    Path("all.zip").write_bytes(packed.getvalue())

    def chances(*arguments: str, stdin: bytes | None = None) -> list[object]:
        rows = records(run(*arguments, "--format", "json", stdin=stdin))
        return [(row["label"], row["probability"]) for row in rows]

    wanted = chances("photos")
    assert chances("all.zip") == wanted
    assert chances("-", stdin="\n".join(map(str, photos)).encode()) == wanted
    assert chances("-", stdin=packed.getvalue()) == wanted
    assert chances("photos/*.png") == wanted


def test_sorting_copies_and_twice_is_once(photos: list[Path]) -> None:
    for _ in range(2):
        result = run("photos", "--sort-into", "sorted")
        assert result.exit_code == 0, result.output
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        paths = sorted(path for path in Path("sorted").rglob("*") if path.is_file())
        assert paths == sorted(Path("sorted", label, Path(name).name) for name, label, _ in rows)
        for path in paths:
            assert path.read_bytes() == Path("photos", path.name).read_bytes()
    assert len(photos) == 48


def test_gradcam_draws_every_image_at_the_networks_size(photos: list[Path]) -> None:
    result = run(*map(str, photos[:3]), "--gradcam", "looked")
    assert result.exit_code == 0, result.output
    drawn = sorted(Path("looked").iterdir())
    assert [path.name for path in drawn] == [path.with_suffix(".jpg").name for path in photos[:3]]
    for path in drawn:
        pixels = cv2.imread(str(path))
        assert pixels is not None
        assert pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_probability_that_is_no_number_is_a_problem_in_its_row(
    photos: list[Path], form: str
) -> None:
    scale_head(Path("models"), 3e38)
    arguments = ["--format", form, "--gradcam", "looked", "--sort-into", "sorted", "--top-k", "2"]
    result = run("photos", *arguments)
    assert result.exit_code == 1
    rows = result.stdout.splitlines()[form == "csv" :]
    assert len(rows) == len(photos), result.exception
    assert all("not_a_number" in row and "nan" not in row.lower() for row in rows)
    assert not Path("looked").exists()
    assert not Path("sorted").exists()


def test_an_empty_folder_is_reported(models: Path) -> None:
    Path("empty").mkdir()
    result = run("empty")
    assert (result.exit_code, result.stdout) == (1, "empty\t-\t-\tno files in it\n")


def test_who_reads_no_further_is_no_error(photos: list[Path]) -> None:
    command = [sys.executable, "-m", "pipeline", "predict", "photos"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_killed_at_any_moment_and_given_again_it_ends_the_same(photos: list[Path]) -> None:
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "predict",
        *["photos"] * 20,
        "--sort-into",
        "killed",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers end when their parent is killed"
    for folder in ("killed", "undisturbed"):
        assert run("photos", "--sort-into", folder).exit_code == 0

    def contents(folder: str) -> dict[str, bytes]:
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    whole = {name: data for name, data in contents("killed").items() if ".staging-" not in name}
    assert whole == contents("undisturbed")
