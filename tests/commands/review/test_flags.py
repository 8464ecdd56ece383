from pathlib import Path

import numpy as np

from pipeline.commands.review.catalogue import FlagKind
from pipeline.commands.review.flags import find_flags
from pipeline.core import shards
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.core.verdicts_csv import KEEP, REJECT, VerdictRow, write_verdicts
from tests.builders.clean_rows import clean_row
from tests.builders.images import encode_png


def verdict(key: str, verdict: str, warnings: str) -> VerdictRow:
    return VerdictRow(key, f"{key}.png", "cell", "", verdict, "", warnings, "")


def test_a_picture_that_uses_few_of_16_bits_is_worth_a_look(world: object) -> None:
    shards.write(
        Path("clean"), shards.CLEAN, [clean_row("a", encode_png(np.zeros((40, 40, 3), np.uint8)))]
    )
    rows = [
        verdict("a", KEEP, "reduced_to_8_bit low_16_bit"),
        verdict("b", REJECT, "reduced_to_8_bit low_16_bit"),
        verdict("c", KEEP, "reduced_to_8_bit"),
    ]
    write_verdicts(Path("verdicts.csv"), rows)
    split_rows = [SplitRow("a", "cell", "train", "a")]
    write_split(Path("split.csv"), split_rows)
    paths = (Path("clean"), Path("split.csv"), Path("features"))
    flags, problems = find_flags(*paths, Path("verdicts.csv"))
    assert list(flags[FlagKind.LOW_16_BIT].ids) == ["a"]
    assert flags[FlagKind.LOW_16_BIT].notes[0].startswith("of 16 bits, at most 14 are used")
    without_verdicts, more_problems = find_flags(*paths, Path("missing.csv"))
    assert FlagKind.LOW_16_BIT not in without_verdicts
    assert len(more_problems) == len(problems) + 1
