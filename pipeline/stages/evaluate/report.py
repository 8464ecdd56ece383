"""report.html, the page to send to a colleague: verdict, use, quality, failures, data and limits.

One file, pictures inside, without scripts. DVC's copy leaves out the commit and the model before
it, so that its bytes depend on the results alone; MLflow's copy has both.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from pipeline.core.percentages import MIN_IMAGES, format_share
from pipeline.core.terminal import name_source
from pipeline.images import gallery
from pipeline.images.gallery import data_uri
from pipeline.images.pixels import Pixels
from pipeline.network.model_folder import Card
from pipeline.params import AS_DESCRIBED, Params
from pipeline.stages.evaluate import verdict
from pipeline.stages.evaluate.abstention_result import describe_sets
from pipeline.stages.evaluate.class_rows import (
    CLASS_FIGURES,
    MIN_TEST_IMAGES,
    ClassTables,
    collect_tables,
    list_names,
)
from pipeline.stages.evaluate.confusions import (
    Confusion,
    count_confusions,
    describe_most_frequent,
)
from pipeline.stages.evaluate.data_facts import DataFacts, read_data_facts
from pipeline.stages.evaluate.evaluated_model import EvaluatedModel
from pipeline.stages.evaluate.intervals import ALONE, Interval
from pipeline.stages.evaluate.neighbours import Neighbour, Neighbours
from pipeline.stages.evaluate.origin import UNKNOWN, ReportOrigin
from pipeline.stages.evaluate.photographs import PicturedSample
from pipeline.stages.evaluate.quality import Quality, describe_quality
from pipeline.stages.evaluate.svg.chart import Chart
from pipeline.stages.evaluate.verdict import Verdict

MAX_CONFUSIONS = 5  # in the table
MAX_SAMPLES = 20  # of each kind, whatever evaluate.samples is: the page stays below 2 MB
QUALITY = 80  # of JPEGs


@dataclass(frozen=True)
class ReportSample:
    """A test image on the page."""

    picture: str
    """A data URI."""
    predicted: str
    label: str
    probability: str
    """Of the predicted class."""


@dataclass(frozen=True)
class ReportNeighbour:
    """A training image on the page."""

    picture: str
    label: str
    similarity: str
    """Cosine."""


@dataclass(frozen=True)
class Mistake:
    """A test image that is taken for another class, and the training images most like it."""

    sample: ReportSample
    neighbours: Sequence[ReportNeighbour]


@dataclass(frozen=True)
class Photographs:
    """Test images on the page."""

    samples: Sequence[ReportSample]
    gradcam: Sequence[ReportSample]
    mistakes: Sequence[Mistake]
    searched: int
    """Training images among which neighbours were searched; 0 for none."""
    training: int
    """Training images in all."""


@dataclass(frozen=True)
class Report:
    """The facts on the page."""

    dataset: str
    source: str
    """What the params name as the source, without its folders, or empty."""
    params: Mapping[str, Mapping[str, object]]
    """Sections of the params, listed in full."""
    card: Card
    quality: Quality
    verdicts: Sequence[Verdict]
    abstention: Sequence[str]
    """Sentences on sets of classes, and on images of none."""
    mistakes: str
    """A sentence on the most frequent."""
    tables: ClassTables
    class_names: str
    """Those that the model predicts, or the first of many."""
    confusions: Sequence[Confusion]
    """The most frequent first, at most `MAX_CONFUSIONS`."""
    more_confusions: int
    """Kinds of mistakes that are left out."""
    grouped: bool
    """Whether some test images are not independent."""
    data: DataFacts
    charts: Mapping[str, Chart]
    photographs: Photographs
    provenance: Mapping[str, str]
    """Digests of the data and, if known, the commit."""
    origin: ReportOrigin = UNKNOWN
    min_test_images: int = MIN_TEST_IMAGES
    min_images: int = MIN_IMAGES
    columns: Sequence[str] = CLASS_FIGURES
    """Of the table of classes."""

    def html(self, provenance: Mapping[str, str], origin: ReportOrigin = UNKNOWN) -> str:
        """The page with this provenance and origin."""
        former = [origin.former] if origin.former else []
        verdicts = [*self.verdicts, *former]
        facts = replace(self, provenance=provenance, origin=origin, verdicts=verdicts)
        return gallery.render("stages/evaluate/report.html", facts)


def collect(
    model: EvaluatedModel,
    charts: Mapping[str, Chart],
    photographs: Photographs,
    *,
    clean: Path,
    split_csv: Path,
) -> Report:
    """Collect the facts of the page."""
    params, result, groups = model.params, model.result, model.groups
    interval = verdict.accuracy_interval(model.figures.summary, groups)
    confusions = count_confusions(result.labels, result.predicted, result.classes)
    tables = collect_tables(model.figures, model.card.classes)
    return Report(
        dataset=params.dataset.name,
        source=(
            "" if params.dataset.source == AS_DESCRIBED else name_source(params.dataset.source)
        ),
        params=_list_params(params),
        card=model.card,
        quality=describe_quality(model.figures, groups, interval),
        verdicts=_judge(model, interval),
        abstention=describe_sets(model.card.abstention, result.sets, groups, len(result.classes)),
        mistakes=describe_most_frequent(confusions),
        tables=tables,
        class_names=list_names(list(model.card.classes)),
        confusions=confusions[:MAX_CONFUSIONS],
        more_confusions=max(0, len(confusions) - MAX_CONFUSIONS),
        grouped=bool((groups != ALONE).any()),
        data=read_data_facts(tables.labels, clean, split_csv),
        charts=charts,
        photographs=photographs,
        provenance={},
    )


def _judge(model: EvaluatedModel, interval: Interval) -> list[Verdict]:
    """By leaks, against the target, if the params have one, and against the most frequent class."""
    result, examples = model.result, model.examples
    training = examples.labels[examples.rows("train")].numpy()
    against_majority = verdict.judge_against_majority(
        result.labels, result.predicted, training, result.classes, model.groups
    )
    target = model.params.evaluate.target_accuracy
    against_target = [verdict.judge_against_target(target, interval)] if target else []
    leaks = verdict.judge_leaks(result.predicted == result.labels, model.is_leaked)
    return [*([leaks] if leaks else []), *against_target, against_majority]


def _list_params(params: Params) -> dict[str, dict[str, object]]:
    """The sections that decide the model; of a file of weights, without its folders."""
    sections = ("images", "model", "features", "head", "train")
    listed = {name: getattr(params, name).model_dump() for name in sections}
    listed["model"]["weights"] = name_source(params.model.weights)
    return listed


def show_photographs(
    pictured: Mapping[str, Sequence[PicturedSample]], neighbours: Neighbours
) -> Photographs:
    """Test images as the page has them.

    Args:
        pictured: "samples", "mistakes" and "gradcam".
        neighbours: Of as many mistakes as the page has.
    """
    return Photographs(
        [_sample(image) for image in pictured["samples"][:MAX_SAMPLES]],
        [_sample(image) for image in pictured["gradcam"]],
        [
            Mistake(_sample(image), [_similar_image(neighbour) for neighbour in similar])
            for image, similar in zip(
                pictured["mistakes"][:MAX_SAMPLES], neighbours.of_images, strict=True
            )
        ],
        neighbours.searched,
        neighbours.training,
    )


def _sample(image: PicturedSample) -> ReportSample:
    probability = format_share(image.probability, 0)
    return ReportSample(_encode(image.pixels), image.predicted, image.true, probability)


def _similar_image(neighbour: Neighbour) -> ReportNeighbour:
    return ReportNeighbour(
        _encode(neighbour.pixels), neighbour.label, f"{neighbour.similarity:.2f}"
    )


def _encode(pixels: Pixels) -> str:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY)
    return data_uri(encoded.getvalue())
