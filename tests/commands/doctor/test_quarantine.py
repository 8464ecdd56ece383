from pathlib import Path

import pytest

from pipeline.commands.doctor.quarantine import Quarantine, isolate


def test_files_and_links_are_moved_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("damaged")
    (tmp_path / "link").symlink_to("a")
    quarantine = Quarantine(tmp_path / "quarantine")
    assert not (tmp_path / "quarantine").exists()
    link = quarantine.move(tmp_path / "link", "data/link")
    moved = quarantine.move(tmp_path / "a", "data/a")
    assert moved.read_text() == "damaged"
    assert link.is_symlink()
    assert moved.parent == link.parent
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quarantine"]


def test_each_repair_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = set()
    for content in ("first", "second"):
        (tmp_path / "a").write_text(content)
        moved = Quarantine(tmp_path / "quarantine").move(tmp_path / "a", "a")
        assert moved.read_text() == content
        folders.add(moved.parent)
    assert len(folders) == 2
    assert sorted(path.read_text() for path in tmp_path.glob("quarantine/*/a")) == [
        "first",
        "second",
    ]


def test_without_a_quarantine_nothing_moves(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("damaged")
    finding = isolate("a is damaged", tmp_path / "a", "a", None, "`dvc repro`")
    assert not finding.is_fixed
    assert finding.line() == (
        "wrong: a is damaged: `pipeline doctor --repair` moves it away, then `dvc repro`"
    )
    assert (tmp_path / "a").exists()


@pytest.mark.parametrize("obstacle", ["a file", "nothing to move"])
def test_what_cannot_be_moved_is_reported(tmp_path: Path, obstacle: str) -> None:
    """As on a file system that is mounted read-only."""
    if obstacle == "a file":
        (tmp_path / "a").write_text("damaged")
        (tmp_path / "quarantine").write_text("")
    quarantine = Quarantine(tmp_path / "quarantine")
    finding = isolate("a is damaged", tmp_path / "a", "a", quarantine, "x")
    assert not finding.is_fixed
    assert "it cannot be moved away (" in finding.line()
