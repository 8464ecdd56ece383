from pathlib import Path

from pipeline.core.split_csv import SplitRow, SplitTable, read_split, write_split
from pipeline.experiments.promotion.unseen_images import find_unseen


def table(folder: Path, *rows: tuple[str, str, str]) -> SplitTable:
    """A split.csv with these ids, splits and groups."""
    path = folder / "split.csv"
    write_split(path, [SplitRow(key, "bee", split, group) for key, split, group in sorted(rows)])
    return read_split(path)


def test_what_a_model_has_seen_is_left_out_with_its_group(tmp_path: Path) -> None:
    present = table(
        tmp_path,
        ("a", "test", ""),
        ("b", "test", ""),
        ("c", "test", "copies"),
        ("d", "test", "copies"),
        ("e", "test", "others"),
        ("f", "train", ""),
        ("g", "test", ""),
    )
    champion = table(tmp_path, ("a", "test", ""), ("b", "train", ""), ("c", "val", ""))
    assert list(find_unseen(present, [present, champion])) == ["a", "e", "g"]


def test_groups_of_the_time_count_too(tmp_path: Path) -> None:
    """The trained copy has left the present split, and its group with it."""
    present = table(tmp_path, ("a", "test", ""), ("b", "test", ""))
    champion = table(tmp_path, ("a", "test", "copies"), ("c", "train", "copies"))
    assert list(find_unseen(present, [present, champion])) == ["b"]
