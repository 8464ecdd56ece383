import hashlib
from pathlib import Path

from pipeline.commands.predict.save import save_picture


def test_names_stay_and_nothing_is_lost(tmp_path: Path) -> None:
    first = save_picture(tmp_path, "holiday.zip/cats/1.jpg", b"one")
    again = save_picture(tmp_path, "other/1.jpg", b"one")
    second = save_picture(tmp_path, "other/1.jpg", b"two")
    assert first == again == tmp_path / "1.jpg"
    assert second.name == "1-3fc4ccfe.jpg"
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    assert save_picture(tmp_path, "x/1.png", b"drawn", ".jpg").name.startswith("1-")


def test_hostile_names_stay_inside(tmp_path: Path) -> None:
    names = [
        "..",
        "a/../..",
        "",
        "/",
        "http://x?a=/..",
        "\n.jpg",
        "a" * 500 + ".jpg",
        "c:\\d.jpg",
    ]
    for number, name in enumerate(names):
        path = save_picture(tmp_path, name, bytes([number]))
        assert path.parent == tmp_path
        assert path.read_bytes() == bytes([number])
    assert len(list(tmp_path.iterdir())) == len(names)
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_no_picture_is_lost_to_another_that_has_its_name_already(tmp_path: Path) -> None:
    contents = [b"first", b"somebody else", b"second"]
    taken = f"a-{hashlib.sha256(b'second').hexdigest()[:8]}.jpg"
    paths = [
        save_picture(tmp_path, name, data)
        for name, data in zip(("a.jpg", taken, "a.jpg"), contents, strict=True)
    ]
    assert [path.read_bytes() for path in paths] == contents
    assert save_picture(tmp_path, "a.jpg", b"second") == paths[2]


def test_a_folder_of_the_name_and_names_of_many_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert save_picture(tmp_path, "a.jpg", b"one").read_bytes() == b"one"
    assert save_picture(tmp_path, "\N{GRINNING FACE}" * 200 + ".jpg", b"two").read_bytes() == b"two"
