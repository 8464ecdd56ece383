from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split


def export(*words: str) -> str:
    result = CliRunner().invoke(app, ["export", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_without_an_option_there_is_nothing_to_do(world: Path) -> None:
    with pytest.raises(
        PipelineError, match=r"^nothing to do: give --onnx FILE, --plain DEST, --mlflow-"
    ):
        export()


def test_the_model_for_torch_alone_and_the_images_are_exported_together(models: Path) -> None:
    output = export("--plain", "plain", "--imagefolder", "photos").splitlines()
    files = {path.name for path in Path("plain").iterdir()}
    assert output[0].startswith("plain: ")
    assert set(output[0].removeprefix("plain: ").split(", ")) == files
    images = [path for path in Path("photos").rglob("*") if path.is_file()]
    assert output[1] == f"{len(images)} images in photos"
    assert {path.parts[1] for path in images} == {"train", "val", "test"}


@pytest.mark.parametrize("has_images", [True, False])
def test_the_line_of_an_onnx_file_has_what_it_was_checked_on(
    models: Path, has_images: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.commands.export import onnx

    views_given: list[bool] = []

    def write(_models: Path, _destination: Path, views: object) -> float:
        views_given.append(views is not None)
        return 3e-7

    monkeypatch.setattr(onnx, "export", write)  # test_onnx.py tests the file itself
    clean = "data/clean" if has_images else "nowhere"
    line = export("--onnx", "model.onnx", "--clean", clean).strip()
    assert views_given == [has_images]
    tested = sum(row.split == "test" for row in read_split(Path("data/split.csv")))
    inputs = f"{tested} test images" if has_images else "noise, as there are no test images here"
    assert line == f"model.onnx: on {inputs}, onnxruntime and torch differ by at most 3e-07"
