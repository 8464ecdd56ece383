import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.dvc_cache import LastOutput, find_last_output

LISTING = "0" * 30 + "1f.dir"
OBJECT = "ab" + "0" * 30
RAW = Path("data/raw")


@pytest.fixture
def project(world: Path) -> Path:
    """A project whose dvc.lock and cache have one shard of data/raw."""
    (world / ".dvc").mkdir()
    (world / ".dvc/config").write_text("[cache]\n    type = hardlink,symlink\n")
    outs = [{"path": str(RAW), "hash": "md5", "md5": LISTING}]
    with (world / "dvc.lock").open("w") as file:
        YAML().dump({"stages": {"acquire": {"outs": outs}}}, file)
    write_cache(world / ".dvc/cache")
    return world


def write_cache(cache: Path, listing: str | None = None) -> None:
    entries = [{"relpath": "00000.arrow", "md5": OBJECT}]
    for digest, text in ((LISTING, listing or json.dumps(entries)), (OBJECT, "shard")):
        path = cache / "files/md5" / digest[:2] / digest[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_last_output_is_linked_from_the_cache(project: Path) -> None:
    last = find_last_output("acquire", RAW)
    assert list(last.files) == ["00000.arrow"]
    last.place("00000.arrow", project / "placed")
    assert (project / "placed").samefile(last.files["00000.arrow"])


@pytest.mark.parametrize(
    "types", ["", "type = copy", "type = reflink,copy", "type = hardlink,copy"]
)
def test_it_is_copied_where_dvc_copies_its_cache(project: Path, types: str) -> None:
    (project / ".dvc/config").write_text(f"[cache]\n    {types}\n")
    last = find_last_output("acquire", RAW)
    last.place("00000.arrow", project / "placed")
    assert (project / "placed").read_text() == "shard"
    assert not (project / "placed").samefile(last.files["00000.arrow"])


def test_it_is_copied_from_a_cache_on_another_file_system(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", fail)
    find_last_output("acquire", RAW).place("00000.arrow", project / "placed")
    assert (project / "placed").read_text() == "shard"


def test_the_cache_may_lie_elsewhere(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("cache")
    (project / ".dvc/cache").rename(elsewhere / "cache")
    assert not find_last_output("acquire", RAW).files
    (project / ".dvc/config.local").write_text(f"[cache]\n    dir = {elsewhere}/cache\n")
    (path,) = find_last_output("acquire", RAW).files.values()
    assert path.is_relative_to(elsewhere)


def test_only_what_the_lock_and_the_cache_have_counts(project: Path) -> None:
    assert find_last_output("filter", RAW) == LastOutput()
    assert find_last_output("acquire", Path("data/other")) == LastOutput()
    (project / ".dvc/cache/files/md5/ab" / OBJECT[2:]).unlink()
    assert not find_last_output("acquire", RAW).files
    (project / "dvc.lock").unlink()
    assert find_last_output("acquire", RAW) == LastOutput()


@pytest.mark.parametrize(
    "listing",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        '[{"relpath": "x"}]',
        f'[{{"relpath": 1, "md5": "{OBJECT}"}}]',
        '[{"relpath": "00000.arrow", "md5": 1}]',
        f'[{{"relpath": "../00000.arrow", "md5": "{OBJECT}"}}]',
        f'[{{"relpath": "deep/00000.arrow", "md5": "{OBJECT}"}}]',
        '[{"relpath": "00000.arrow", "md5": "../../../../../config"}]',
    ],
)
def test_a_damaged_or_odd_listing_names_no_files(project: Path, listing: str) -> None:
    write_cache(project / ".dvc/cache", listing or " ")
    assert not find_last_output("acquire", RAW).files
