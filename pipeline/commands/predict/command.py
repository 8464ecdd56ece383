"""`pipeline predict`."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.predict.rows import Format, Writer
from pipeline.core import program
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar, show_activity
from pipeline.core.terminal import warn

if TYPE_CHECKING:
    from pipeline.inference.classifier import Classifier
    from pipeline.inference.predict import Answer

MAX_START = 512  # bytes by which a format is recognised
UNSURE = "unsure"
NO_PROMISE = (
    "this model promises nothing about sets of classes: its validation set had too few images to "
    "set some aside, or an older version trained it; `dvc exp run -S abstention.share=0.5` trains "
    "one that promises (docs/abstention.md)"
)
Save = Callable[["Answer"], None]


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Files, folders, patterns, zip or tar archives, URLs; `-` is standard input: an "
            "image, an archive, or names.",
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", help="The model's folder, or @champion.")
    ] = "models",
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    top_k: Annotated[int, typer.Option(min=1, help="Classes to print per image.")] = 1,
    gradcam: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write Grad-CAM pictures here: where the model looked."),
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy images here, into a folder per class.")
    ] = None,
    abstain: Annotated[
        bool,
        typer.Option(
            "--abstain",
            help="Say which classes an image may be of, or none of these (docs/abstention.md).",
        ),
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow URLs of private networks.")
    ] = False,
) -> None:
    """Classify photographs: print a class and its probability for each.

    For an image that cannot be read, the row contains the reason and the exit code is 1.

    Examples:

        pipeline predict photo.jpg

        pipeline predict holiday/ more.zip --format json > holiday.jsonl

        pipeline predict "holiday/**/*.jpg" --top-k 3 --gradcam looked/

        find / -name "*.jpg" | pipeline predict - --sort-into sorted/

        pipeline predict photo.jpg --model @champion

        pipeline predict holiday/ --abstain --sort-into sorted/
    """
    from pipeline.inference.decoder_pool import DecoderPool

    show_activity("predict")
    failed, unread = 0, Counter[str]()
    with DecoderPool() as decoders:
        decoders.start()  # while torch is imported
        with program.imports():
            from pipeline.inference.classifier import Classifier
            from pipeline.inference.inputs import LIMITS, ImageInputs
            from pipeline.inference.predict import predict as run
            from pipeline.inference.registered_models import find_folder

        classifier, writer = Classifier(find_folder(model)), Writer(output, top_k, abstain)
        if classifier.warning:
            warn(classifier.warning)
        if abstain and classifier.card.abstention is None:
            raise PipelineError(NO_PROMISE)
        saves = [] if sort_into is None else [_copier(sort_into, classifier.card.classes, abstain)]
        saves += [] if gradcam is None else [_gradcam_drawer(gradcam, classifier)]
        limits = LIMITS.model_copy(update={"allow_private": allow_private})
        with (
            bar("predict", 0) as progress,
            ImageInputs(sys.stdin.buffer, limits, progress.add_to_total) as inputs,
        ):
            for answer in run(classifier, decoders, inputs.images(paths), top_k):
                failed += answer.prediction.problem is not None
                unread.update(_unread(answer))
                for save in saves:
                    save(answer)
                writer.write(answer)
                progress.update()
    from pipeline.images.format_detection import describe_unread

    for name, number in unread.most_common():
        warn(describe_unread(name, number))
    if failed:
        sys.exit(1)


def _unread(answer: "Answer") -> list[str]:
    """The format of an image that is not read, if it is known."""
    from pipeline.images.format_detection import name_unread
    from pipeline.images.header import RejectReason

    is_unread = answer.prediction.problem in {RejectReason.UNSUPPORTED, RejectReason.NOT_AN_IMAGE}
    content = answer.image.content
    name = name_unread(content[:MAX_START]) if is_unread and isinstance(content, bytes) else None
    return [name] if name else []


def _copier(folder: Path, classes: Sequence[str], abstain: bool) -> Save:
    """Copies images into a folder per class; those of several or none, if asked, into `UNSURE`."""
    from pipeline.commands.predict.save import save_picture
    from pipeline.core.terminal import distinct_file_names

    unsure = UNSURE
    while unsure.casefold() in map(str.casefold, classes):
        unsure += "_"
    folders = distinct_file_names([*classes, unsure] if abstain else classes)

    def save(answer: "Answer") -> None:
        label, image, candidates = (
            answer.prediction.label,
            answer.image,
            answer.prediction.candidates,
        )
        if abstain and candidates is not None:
            label = candidates.label or unsure
        if label is not None and isinstance(image.content, bytes):
            save_picture(folder / folders[label], image.name, image.content)

    return save


def _gradcam_drawer(folder: Path, classifier: "Classifier") -> Save:
    import cv2

    from pipeline.commands.predict.save import save_picture
    from pipeline.stages.evaluate.gradcam import Explainer, overlay

    explainer = Explainer(classifier.network, classifier.card)

    def save(answer: "Answer") -> None:
        if answer.view is not None:
            index = classifier.card.classes.index(str(answer.prediction.label))
            (heat,) = explainer.heat(answer.view[None], [index])
            picture = overlay(answer.view, heat)[:, :, ::-1]  # BGR
            save_picture(
                folder, answer.image.name, cv2.imencode(".jpg", picture)[1].tobytes(), ".jpg"
            )

    return save
