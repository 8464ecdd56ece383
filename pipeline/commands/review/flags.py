"""Everything that makes images worth a look: by pixels, features, verdicts."""

from pathlib import Path

from pipeline.commands.review import quality
from pipeline.commands.review.catalogue import FlagKind, Flags
from pipeline.commands.review.outliers import find_outliers, mean_distances
from pipeline.commands.suspects.suspects import find_suspects
from pipeline.core.errors import PipelineError
from pipeline.core.percentages import format_share
from pipeline.core.verdicts_csv import scan_verdicts
from pipeline.images.header import Warn
from pipeline.inference.pooled_features import open_features
from pipeline.network.examples import read_examples


def find_flags(
    clean: Path, split_csv: Path, features: Path, verdicts_csv: Path
) -> tuple[dict[FlagKind, Flags], list[str]]:
    """The flagged images by kind, and sentences about kinds that could not be looked for."""
    flags, problems = quality.find_flags(clean), []
    for kind, find in ((FlagKind.LABEL, _find_labels), (FlagKind.OUTLIER, _find_outliers)):
        try:
            flags[kind] = find(clean, split_csv, features)
        except PipelineError as error:
            problems.append(str(error))
    try:
        flags[FlagKind.LOW_16_BIT] = _find_low_16_bit(verdicts_csv)
    except FileNotFoundError:
        problems.append(f"pictures of few bits are not listed: there is no {verdicts_csv}")
    return flags, list(dict.fromkeys(problems))


def _find_labels(clean: Path, split_csv: Path, features: Path) -> Flags:
    """As `pipeline suspects`."""
    suspects = find_suspects(clean, split_csv, features)
    return Flags(
        [suspect.id for suspect in suspects],
        [f"looks like {image.looks_like} ({format_share(image.other, 0)})" for image in suspects],
        [suspect.looks_like for suspect in suspects],
    )


def _find_outliers(clean: Path, split_csv: Path, features: Path) -> Flags:
    examples = read_examples(split_csv, clean)
    distances = mean_distances(open_features(features, examples), len(examples))
    rows = find_outliers(distances)
    notes = [f"unlike the others: distance {distance:.2f}" for distance in distances[rows].tolist()]
    return Flags(examples.ids_of(rows), notes)


def _find_low_16_bit(verdicts_csv: Path) -> Flags:
    """Pictures that `filter` warned of: perhaps of 10, 12 or 14 bits, and far too dark."""
    ids = [
        row.id
        for row in scan_verdicts(verdicts_csv)
        if row.is_kept and Warn.LOW_16_BIT in row.warnings.split()
    ]
    note = "of 16 bits, at most 14 are used: scale the values, if it is too dark"
    return Flags(ids, [note] * len(ids))
