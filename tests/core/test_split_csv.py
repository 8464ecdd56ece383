from pathlib import Path

from pipeline.core.split_csv import SplitRow, read_groups, write_split


def test_groups_are_numbered_in_the_order_of_their_names(tmp_path: Path) -> None:
    """An image on its own is a group of its id."""
    groups = {"a": "z", "b": "", "c": "m", "d": "z"}
    rows = [SplitRow(id=key, label="x", split="train", group=name) for key, name in groups.items()]
    write_split(tmp_path / "split.csv", rows)
    assert read_groups(tmp_path / "split.csv").tolist() == [2, 0, 1, 2]
