"""`pipeline export`."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line


def export(
    imagefolder: Annotated[
        Path | None,
        typer.Option(metavar="DEST", help="A new folder for split/class/image files."),
    ] = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model as ONNX, checked by onnxruntime.")
    ] = None,
    plain: Annotated[
        Path | None,
        typer.Option(
            metavar="DEST",
            help="A new folder with the model for torch alone, and an example that uses it.",
        ),
    ] = None,
    mlflow_pytorch: Annotated[
        Path | None,
        typer.Option(
            metavar="DEST", help="A new folder with the model in MLflow's PyTorch flavour (pt2)."
        ),
    ] = None,
    models: Annotated[Path, typer.Option("--model", help="The model's folder.")] = Path("models"),
    clean: Annotated[Path, typer.Option(help="The folder of clean images.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="The splits.")] = Path("data/split.csv"),
) -> None:
    """Export the model, or the clean images, for other tools.

    The ONNX file is compared with torch on the test images, in batches of several sizes: if a
    probability differs by more than 0.0001, nothing is written.

    Examples:

        pipeline export --onnx model.onnx

        pipeline export --plain my-model && python my-model/example.py photo.jpg

        pipeline export --mlflow-pytorch my-model    # then mlflow.pytorch.load_model("my-model")

        pipeline export --imagefolder /tmp/photos
    """
    if not (imagefolder or onnx or plain or mlflow_pytorch):
        raise PipelineError(
            "nothing to do: give --onnx FILE, --plain DEST, --mlflow-pytorch DEST or --imagefolder "
            "DEST"
        )
    if onnx:
        _onnx(models, onnx, clean, split)
    if plain:
        from pipeline.commands.export.plain_torch import export as write_plain

        print_line(f"{plain}: {', '.join(write_plain(models, plain))}")
    if mlflow_pytorch:
        from pipeline.commands.export.mlflow_pytorch import export as write_mlflow

        worst = write_mlflow(models, mlflow_pytorch)
        print_line(f"{mlflow_pytorch}: on noise, it and torch differ by at most {worst:.1g}")
    if imagefolder:
        from pipeline.commands.export.imagefolder import imagefolder as write_images

        print_line(f"{write_images(clean, split, imagefolder)} images in {imagefolder}")


def _onnx(models: Path, destination: Path, clean: Path, split: Path) -> None:
    from pipeline.commands.export.onnx import export as write
    from pipeline.core.split_csv import read_split
    from pipeline.network import model_folder
    from pipeline.network.views import EncodedImages, Views

    test_views, inputs = None, "noise, as there are no test images here"
    if split.exists() and clean.exists():
        ids = [row.id for row in read_split(split) if row.split == "test"]
        if ids:
            preprocess = model_folder.read_card(models).preprocess
            test_views = Views(ids, EncodedImages(clean, ids), preprocess)
            inputs = f"{len(ids)} test images"
    worst = write(models, destination, test_views)
    print_line(f"{destination}: on {inputs}, onnxruntime and torch differ by at most {worst:.1g}")
