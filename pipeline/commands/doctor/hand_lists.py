"""reject.csv and relabel.csv of the data sets: people write them, in any program."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.core.errors import PipelineError
from pipeline.images import hand_lists


def examine(datasets: Path) -> Iterator[Finding]:
    """Lists that the filter would refuse."""
    for toml in sorted(datasets.glob("*/dataset.toml")):
        for read in (hand_lists.read_rejects, hand_lists.read_corrections):
            try:
                read(toml.parent)
            except PipelineError as error:
                yield Finding(str(error))
