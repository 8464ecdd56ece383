from pathlib import Path

import pytest

from pipeline.commands.doctor.hand_lists import examine

ID = "f" * 64


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "dataset.toml").touch()
    return folder


def test_sound_lists_and_missing_ones_are_no_finding(pets: Path) -> None:
    (pets / "relabel.csv").write_text(f"id,label,why\n{ID},cat,\n")
    assert list(examine(pets.parent)) == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("reject.csv", b"id;why\n", "should start with the line id,why and have commas"),
        ("reject.csv", b"\xff\xfe", "is not in UTF-8: save it as CSV in UTF-8"),
        (
            "relabel.csv",
            b"id,label,why\ncat/1.png,dog,\n",
            "line 2: 'cat/1.png' is not an image id",
        ),
    ],
)
def test_a_list_that_the_filter_refuses_is_one_finding(
    pets: Path, name: str, content: bytes, problem: str
) -> None:
    (pets / name).write_bytes(content)
    (finding,) = examine(pets.parent)
    assert finding.line().startswith(f"wrong: {pets / name}")
    assert problem in finding.line()
