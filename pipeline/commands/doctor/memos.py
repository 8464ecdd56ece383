"""The memos in .cache, which stages read instead of computing a result again."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.commands.doctor.finding import Finding
from pipeline.core import shards
from pipeline.core.errors import PipelineError

CACHE = Path(".cache")


def examine() -> Iterator[Finding]:
    """Damaged files. A stage that meets one computes its results again."""
    for path in sorted(CACHE.glob("*/*/**/*.arrow")):
        try:
            shards.read(path)
        except PipelineError:
            yield Finding(f"the memo {path} is damaged", "`dvc repro` computes its results again")
