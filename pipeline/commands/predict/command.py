"""The command that uses a model."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.predict.rows import Format, Writer
from pipeline.core.progress import add_to_total, bar

if TYPE_CHECKING:
    from pipeline.inference.classifier import Classifier
    from pipeline.inference.predict import Answer

Leave = Callable[["Answer"], None]


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Files, folders, patterns, zip or tar archives, URLs; `-` is standard input: an "
            "image, an archive, or names.",
        ),
    ],
    models: Annotated[Path, typer.Option("--model", help="The model's folder.")] = Path("models"),
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to say of each.")] = 1,
    gradcam: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw there where the model looked.")
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy images there, to a folder per class.")
    ] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="URLs may lead into your own network.")
    ] = False,
) -> None:
    """Say what is on photographs: a class and its probability for each.

    What cannot be read is a row with the reason, and makes the exit code 1.

    Examples:

        pipeline predict photo.jpg

        pipeline predict holiday/ more.zip --format json > holiday.jsonl

        pipeline predict "holiday/**/*.jpg" --top-k 3 --gradcam looked/

        find / -name "*.jpg" | pipeline predict - --sort-into sorted/
    """
    from pipeline.inference.decoder_pool import DecoderPool

    failed = 0
    with DecoderPool() as decoders:
        decoders.start()  # while torch is imported
        from pipeline.inference.classifier import Classifier
        from pipeline.inference.inputs import LIMITS, ImageInputs
        from pipeline.inference.predict import predict as run

        classifier, writer = Classifier(models), Writer(output, top_k)
        leaves = [] if sort_into is None else [_sorting(sort_into)]
        leaves += [] if gradcam is None else [_explaining(gradcam, classifier)]
        limits = LIMITS.model_copy(update={"allow_private": allow_private})
        with (
            bar("predict", 0) as shown,
            ImageInputs(sys.stdin.buffer, limits, partial(add_to_total, shown)) as inputs,
        ):
            for answer in run(classifier, decoders, inputs.images(paths), top_k):
                failed += answer.prediction.problem is not None
                for leave in leaves:
                    leave(answer)
                writer.write(answer)
                shown.update()
    if failed:
        sys.exit(1)


def _sorting(folder: Path) -> Leave:
    from pipeline.commands.predict.save import keep
    from pipeline.core.terminal import safe_file_name

    def leave(answer: "Answer") -> None:
        label, image = answer.prediction.label, answer.image
        if label is not None and isinstance(image.content, bytes):
            keep(folder / safe_file_name(label), image.name, image.content)

    return leave


def _explaining(folder: Path, classifier: "Classifier") -> Leave:
    import cv2

    from pipeline.commands.predict.save import keep
    from pipeline.stages.evaluate.gradcam import Explainer, overlay

    explainer = Explainer(classifier.network, classifier.card)

    def leave(answer: "Answer") -> None:
        if answer.view is not None:
            place = classifier.card.classes.index(str(answer.prediction.label))
            (heat,) = explainer.heat(answer.view[None], [place])
            drawn = overlay(answer.view, heat)[:, :, ::-1]  # OpenCV's order of colours
            keep(folder, answer.image.name, cv2.imencode(".jpg", drawn)[1].tobytes(), ".jpg")

    return leave
