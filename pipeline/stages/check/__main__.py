"""Stage check: refuse params, data sets and sources that cannot work, before any other stage."""

from pathlib import Path

from pipeline.core import atomic, stage
from pipeline.params import load_params
from pipeline.stages.check.checks import check

TEXT = "The params, the data set and its source have been checked.\n"


def main(checked: Path) -> None:
    """Check params.yaml and what it names; write CHECKED, always the same bytes."""
    check(load_params())
    atomic.write_text(checked, TEXT)


if __name__ == "__main__":
    stage.run(main)
