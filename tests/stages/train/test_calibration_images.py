from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.split_csv import SplitRow, write_split
from pipeline.network.examples import Examples
from pipeline.params import AbstentionParams
from pipeline.stages.train import calibration_images
from pipeline.stages.train.calibration_images import count_groups, draw, set_aside

BY_DEFAULT = AbstentionParams(share=None, coverage=0.95, false_alarms=0.05)
HALF = AbstentionParams(share=0.5, coverage=0.95, false_alarms=0.05)


def make_rows(count: int) -> list[SplitRow]:
    """Every third image is of train; of the others, three at a time are a group."""
    return [
        SplitRow(f"{n:04}", "ab"[n % 2], ("train", "val", "val")[n % 3], f"g{n // 9}" * (n % 3 > 1))
        for n in range(count)
    ]


def examples_of(rows: list[SplitRow]) -> Examples:
    ids, splits = [row.id for row in rows], [row.split for row in rows]
    return Examples.of(ids, torch.zeros(len(rows)).long(), splits, ["a", "b"], ids)


def draw_from(folder: Path, rows: list[SplitRow]) -> calibration_images.CalibrationImages:
    write_split(folder / "split.csv", rows)
    return draw(folder / "split.csv", examples_of(rows), HALF)


@pytest.mark.parametrize(
    ("groups", "aside"), [(0, 0), (48, 0), (118, 0), (119, 19), (150, 50), (200, 100), (901, 450)]
)
def test_by_default_a_hundred_groups_stay_and_too_few_are_not_set_aside(
    groups: int, aside: int
) -> None:
    assert count_groups(groups, BY_DEFAULT) == aside


@given(st.integers(0, 500), st.floats(0, 0.999))
def test_a_share_leaves_a_group_to_choose_the_weights(groups: int, share: float) -> None:
    params = AbstentionParams(share=share, coverage=0.95, false_alarms=0.05)
    assert 0 <= count_groups(groups, params) <= max(0, groups - 1)


def test_whole_groups_of_the_validation_set_are_drawn(tmp_path: Path) -> None:
    rows = make_rows(300)
    drawn = draw_from(tmp_path, rows)
    aside = {rows[number].group or rows[number].id for number in drawn.rows}
    left = {
        row.group or row.id
        for number, row in enumerate(rows)
        if row.split == "val" and number not in drawn.rows
    }
    assert not aside & left
    assert len(aside) == len(left) == len(np.unique(drawn.groups))
    assert {rows[number].split for number in drawn.rows} == {"val"}


def test_new_images_move_few_others(tmp_path: Path) -> None:
    before = draw_from(tmp_path, make_rows(900)).rows
    after = draw_from(tmp_path, make_rows(918)).rows
    assert len({*before} - {*after}) < 0.1 * len(before)


def test_images_that_are_set_aside_are_no_validation_images(tmp_path: Path) -> None:
    rows = make_rows(90)
    examples, drawn = examples_of(rows), draw_from(tmp_path, rows)
    changed = set_aside(examples, drawn.rows)
    assert changed.rows(calibration_images.SPLIT).tolist() == drawn.rows.tolist()
    assert {*changed.rows("val")} == {*examples.rows("val")} - {*drawn.rows}
    assert changed.rows("train").tolist() == examples.rows("train").tolist()
    nothing = set_aside(examples, drawn.rows[:0])
    assert nothing.digest() == examples.digest() != changed.digest()
