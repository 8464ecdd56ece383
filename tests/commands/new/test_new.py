import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.new import local
from pipeline.commands.new.request import Request
from pipeline.core.errors import PipelineError
from pipeline.core.shards import digest
from pipeline.params import load_params
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources.dispatch import open_source
from tests import ROOT
from tests.project import Project

PHOTOS = {
    f"{label}/{label} {n}.jpg": f"{label}{n}".encode()
    for label in ("개", "chat noir", "é")
    for n in "123"
}


@pytest.fixture
def project(world: Path) -> Path:
    """A folder with a params.yaml and a datasets folder."""
    (world / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (world / "datasets").mkdir()
    return world


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make(*words: str) -> str:
    result = CliRunner().invoke(app, ["new", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def error_of(*words: str) -> str:
    with pytest.raises(PipelineError) as caught:
        CliRunner().invoke(app, ["new", *words], catch_exceptions=False)
    return str(caught.value)


def toml_of(name: str) -> dict[str, object]:
    return tomllib.loads(Path("datasets", name, "dataset.toml").read_text())


def labels_of(name: str) -> dict[str, str]:
    with open_source(Path("datasets", name), "datasets", load_params().acquire) as acquired:
        return {image.name: image.label for image in acquired.items if isinstance(image, RawImage)}


def facts_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """What must not change of somebody's files."""
    facts: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kept = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink, status.st_uid)
        content = (
            path.readlink() if path.is_symlink() else path.is_file() and digest(path.read_bytes())
        )
        facts[str(path)] = (*kept, content)
    return facts


def test_a_folder_is_understood_copied_and_left_as_it_is(
    new_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "my photos", {**PHOTOS, "é/.DS_Store": b"", "notes.txt": b"x"})
    (source / "é/link.jpg").symlink_to(source / "é/é 1.jpg")
    (source / "é/é 2.jpg").chmod(0o640)
    before = facts_of(source)
    project = new_project.copied(tmp_path / "project")
    output = project.pipeline("new", "pets", str(source))
    assert facts_of(source) == before

    monkeypatch.chdir(project.folder)
    copy = project.folder / "data/photos/pets"
    copies = {str(path.relative_to(copy)): path for path in copy.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in copies.items()} == {
        **PHOTOS,
        "é/link.jpg": "é1".encode(),
    }
    inodes = {fact[0] for fact in before.values()}
    assert not inodes & {path.stat().st_ino for path in copies.values()}
    assert not any(path.is_symlink() for path in copies.values())

    assert toml_of("pets")["path"] == "../../data/photos/pets"
    assert "10 images of 3 classes" in output
    assert re.search(r"^é +4$", output, re.MULTILINE)
    assert "labels: from the folders of the files" in output
    assert "left out: 2 outside_class_folders" in output
    assert output.count("\n  ") == 10  # names of files
    assert "others get the copy only after `dvc push` to a remote" in output
    assert output.endswith(
        "next: git add datasets/pets data/photos/.gitignore\n"
        "then: dvc exp run -S dataset.name=pets\n"
    )
    assert (project.folder / "datasets/pets/photos.dvc").exists()
    assert not (project.folder / "data/photos/pets.dvc").exists()
    project.git("add", "datasets/pets", "data/photos/.gitignore")
    status = project.git("status", "--porcelain", "--untracked-files=all", "data", "datasets")
    assert "??" not in status
    status = project.dvc("status", "datasets/pets/photos.dvc").stdout
    assert "up to date" in status


def test_photographs_may_stay_where_they_are(project: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "photos", PHOTOS)
    output = make("pets", str(source), "--stay")
    assert toml_of("pets") == {
        "kind": "folder",
        "description": "pets: from photos.",
        "path": str(source),
    }
    assert "others need them at the same path" in output
    assert set(labels_of("pets").values()) == {"개", "chat noir", "é"}


def test_the_source_of_params_is_reset_in_the_next_command(project: Path, tmp_path: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("source: datasets", "source: /old/photos"))
    output = make("pets", str(write(tmp_path / "photos", PHOTOS)), "--stay")
    assert output.endswith("-S dataset.name=pets -S dataset.source=datasets\n")


KAGGLE = {
    **{f"train/{n}.jpg": str(n).encode() for n in range(4)},
    "train.csv": b"id,class,species\n0,x,cat\n1,x,dog\n2,y,cat\n3,y,dog",
    "test/9.jpg": b"9",
}


def test_an_ambiguous_source_is_refused_with_both_options(project: Path, tmp_path: Path) -> None:
    source = str(write(tmp_path / "kaggle", KAGGLE))
    message = error_of("pets", source, "--stay")
    assert message == (
        f"{source}: two columns of train.csv may have the classes: --label-column 'class' for 2 "
        "classes (x, y), --label-column 'species' for 2 classes (cat, dog)"
    )
    assert not Path("datasets/pets").exists()
    make("pets", source, "--stay", "--label-column", "species")
    assert toml_of("pets")["label_column"] == "species"
    assert labels_of("pets")["train/0.jpg"] == "cat"


def test_an_ambiguous_source_is_asked_about_on_a_terminal(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = iter(["", "3", "2"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    local.from_files(Request("pets"), [str(write(tmp_path / "kaggle", KAGGLE))], stay=True)
    assert "  2  2 classes (cat, dog)  (--label-column 'species')" in capsys.readouterr().out
    assert toml_of("pets")["label_column"] == "species"


def test_a_table_is_a_source_with_the_images_beside_it(project: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "kaggle", KAGGLE | {"other.csv": b"id,label\n0,a\n1,b"})
    make("pets", str(source / "other.csv"), "--stay")
    assert toml_of("pets")["table"] == "other.csv"
    assert labels_of("pets") == {"train/0.jpg": "a", "train/1.jpg": "b"}


def test_several_archives(project: Path, tmp_path: Path) -> None:
    for part in ("part-1.zip", "part-2.zip"):
        with zipfile.ZipFile(tmp_path / part, "w") as archive:
            for name, data in PHOTOS.items():
                archive.writestr(name, data)
    output = make("pets", str(tmp_path / "part-*.zip"), "--stay")
    assert "18 images of 3 classes" in output
    assert toml_of("pets")["path"] == str(tmp_path / "part-*.zip")
    assert len(labels_of("pets")) == 18
    (tmp_path / "part-3.zip").write_bytes(b"")
    assert "has other files like part-1.zip, part-2.zip: put the archives" in error_of(
        "two", str(tmp_path / "part-1.zip"), str(tmp_path / "part-2.zip"), "--stay"
    )


def test_a_list_of_urls(project: Path, tmp_path: Path) -> None:
    path = write(tmp_path, {"x.csv": b"link,breed\nhttp://a/1,pug\nhttp://a/2,cat"}) / "x.csv"
    output = make("dogs", "--from-urls", str(path))
    assert "2 images of 2 classes" in output
    assert Path("datasets/dogs/urls.csv").read_bytes() == path.read_bytes()
    assert toml_of("dogs")["path"] == "urls.csv"


def test_flickr_searches(project: Path) -> None:
    make(
        "pets", "--from-flickr", "tabby cat", "--from-flickr", "dog=dog portrait", "--wanted", "100"
    )
    assert toml_of("pets") == {
        "kind": "flickr",
        "description": "pets: a Flickr search.",
        "seed": 1,
        "wanted": {"train": 70, "val": 15, "test": 15},
        "classes": {"tabby cat": {"text": "tabby cat"}, "dog": {"text": "dog portrait"}},
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/b", "photos"], "'a/b' is not a name for a data set"),
        (["pets"], "give one source"),
        (["pets", "photos", "--from-urls", "x.csv"], "give one source"),
        (["pets", "phtos"], "phtos does not exist (did you mean photos?)"),
        (["pets", "photos", "--pattern", "x"], "--pattern 'x': "),
        (["pets", "photos", "--pattern", "{label}_#"], "the pattern {label}_# matches no file"),
        (["pets", "one"], 'all images would be of the class "images", by the folders of the'),
        (["pets", "--from-flickr", "cat"], 'all images would be of the class "cat"'),
        (["pets", "--from-flickr", "a=", "--from-flickr", " =b"], "a Flickr search is 'query' or"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(project: Path, words: list[str], message: str) -> None:
    write(project / "photos", PHOTOS)
    write(project / "one", {"images/IMG_1.jpg": b"1", "images/IMG_2.jpg": b"2"})
    assert message in error_of(*words)
    assert not Path("datasets/pets").exists()


def test_a_name_that_is_taken_is_refused(project: Path) -> None:
    (project / "datasets/pets").mkdir()
    assert error_of("pets", ".") == "datasets/pets exists: take another name, or delete it first"
