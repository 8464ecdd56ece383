"""`pipeline export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line

if TYPE_CHECKING:
    from pipeline.commands.export.croissant import DatasetSource


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
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="DEST",
            help="A new folder with a table that shows that no owner, copy or near-duplicate is in "
            "two splits, and a program that checks it.",
        ),
    ] = None,
    croissant: Annotated[
        Path | None,
        typer.Option(
            metavar="DEST",
            help="A new folder with the data set in Croissant's format: its description, and a "
            "table of its images with licences and sources.",
        ),
    ] = None,
    ro_crate: Annotated[
        Path | None,
        typer.Option(
            metavar="DEST",
            help="A new folder with the run as an RO-Crate: model, params, split, figures and how "
            "they belong together.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="The model's folder, or @champion.")
    ] = "models",
    clean: Annotated[Path, typer.Option(help="The folder of clean images.")] = Path("data/clean"),
    split: Annotated[Path, typer.Option(help="The splits.")] = Path("data/split.csv"),
    raw: Annotated[Path, typer.Option(help="The output of stage acquire.")] = Path("data/raw"),
) -> None:
    """Export the model, or the clean images, for other tools.

    The ONNX file is compared with torch on the test images, in batches of several sizes: if a
    probability differs by more than 0.0001, nothing is written.

    Examples:

        pipeline export --onnx model.onnx

        pipeline export --plain my-model && python my-model/example.py photo.jpg

        pipeline export --mlflow-pytorch my-model    # then mlflow.pytorch.load_model("my-model")

        pipeline export --imagefolder /tmp/photos

        pipeline export --certificate proof && python proof/check_split.py proof/*.csv

        pipeline export --croissant dataset --ro-crate run
    """
    of_model, of_data = (onnx, plain, mlflow_pytorch), (imagefolder, certificate, croissant)
    if not any((*of_model, *of_data, ro_crate)):
        raise PipelineError(
            "nothing to do: give --onnx FILE, --plain DEST, --mlflow-pytorch DEST, --imagefolder "
            "DEST, --certificate DEST, --croissant DEST or --ro-crate DEST"
        )
    show_activity("export")
    if any(of_model):
        from pipeline.inference.registered_models import find_folder

        models = find_folder(model)
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

        print_line(f"{plural(write_images(clean, split, imagefolder), 'image')} in {imagefolder}")
    if certificate:
        _certify(certificate, raw, clean, split)
    if croissant:
        _describe_dataset(croissant, raw, split)
    if ro_crate:
        _describe_run(ro_crate, raw, split)


def _describe_dataset(destination: Path, raw: Path, split: Path) -> None:
    from pipeline.commands.export.croissant import METADATA
    from pipeline.commands.export.croissant import export as write

    count = write(_dataset_source(raw, split), destination)
    print_line(f"{destination / METADATA}: {plural(count, 'image')}")


def _describe_run(destination: Path, raw: Path, split: Path) -> None:
    from pipeline.commands.export.ro_crate import METADATA
    from pipeline.commands.export.ro_crate import export as write
    from pipeline.core import project
    from pipeline.experiments.attestation import workspace

    project.check()
    commit = workspace.require_commit(workspace.require_result())
    count = write(_dataset_source(raw, split), commit, destination)
    print_line(f"{destination / METADATA}: {plural(count, 'file')}")


def _dataset_source(raw: Path, split: Path) -> "DatasetSource":
    from pipeline.commands.export.croissant import DatasetSource
    from pipeline.core.git import git
    from pipeline.params import load_params

    name = load_params(Path("params.yaml")).dataset.name
    date = git("show", "-s", "--format=%cs", "HEAD").strip()
    return DatasetSource(Path("datasets") / name, raw, split, date)


def _certify(destination: Path, raw: Path, clean: Path, split: Path) -> None:
    from pipeline.commands.export.certificate import CHECKER, TABLE, CertificateInputs, certify
    from pipeline.params import load_params

    params = load_params(Path("params.yaml")).filter
    result = certify(CertificateInputs(raw, clean, split), params, destination)
    print_line(f"{destination}: {plural(result.images, 'image')}, no leak between splits")
    words = f"--bits {params.near_duplicate_bits or 0}"
    if result.suspected:
        pairs = plural(result.suspected, "pair looks", "pairs look")
        print_line(f"by its hashes {pairs} like copies; laid over each other, they differ")
        words += f" --suspected {result.suspected}"
    print_line(f"to check it: python {CHECKER} {TABLE} {words}")


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
