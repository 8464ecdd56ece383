import errno
import io
import os
import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.new import local
from pipeline.commands.new.request import Request
from pipeline.core.errors import PipelineError
from pipeline.core.shards import digest
from pipeline.datasets.source_path import check_source
from pipeline.experiments import dvc
from pipeline.params import load_params
from pipeline.stages.acquire.raw_image import RawImage
from pipeline.stages.acquire.sources.dispatch import open_source
from tests import ROOT
from tests.builders.s3 import BUCKET, serve_s3, use_s3
from tests.fakes.flickr import FakeFlickr
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
        inode = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_nlink, status.st_uid)
        content = (
            path.readlink() if path.is_symlink() else path.is_file() and digest(path.read_bytes())
        )
        facts[str(path)] = (*inode, content)
    return facts


def test_a_folder_is_understood_copied_and_left_as_it_is(
    new_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "my photos", {**PHOTOS, "é/.DS_Store": b"", "notes.txt": b"x"})
    write(source, {"é/é 1.mov": b"x"})
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
    assert "left out: 1 outside_class_folders, 1 other_kind" in output
    assert output.count("\n  ") == 10 + 2  # names of files
    assert "what is left out is not in the copy, so data/skipped.csv will not list it" in output
    assert "\n  é/é 1.mov: no image by its name, such as a film or a text\n" in output
    assert "others get the copy only after `dvc push` to a remote" in output
    assert output.endswith(
        "next: git add datasets/pets data/photos/.gitignore && git commit -m 'Add pets'\n"
        "then: dvc exp run -S dataset.name=pets -S dataset.source=datasets\n"
    )
    assert (project.folder / "datasets/pets/photos.dvc").exists()
    assert not (project.folder / "data/photos/pets.dvc").exists()
    project.git("add", "datasets/pets", "data/photos/.gitignore")
    status = project.git("status", "--porcelain", "--untracked-files=all", "data", "datasets")
    assert "??" not in status
    status = project.dvc("status", "datasets/pets/photos.dvc").stdout
    assert "up to date" in status


def test_what_a_table_lacks_is_no_difference_of_the_copy(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(local, "track", lambda *_: None)  # `dvc add` takes a second
    rows = "\n".join(f"{n}.jpg,{'cat' if n % 2 else 'dog'}" for n in range(60))
    photos = {f"{n}.jpg": str(n).encode() for n in range(1, 60)}
    source = write(tmp_path / "photos", photos | {"t.csv": f"file,label\n{rows}".encode()})
    local.from_files(Request("pets"), [str(source)])
    output = capsys.readouterr().out
    assert "left out: 1 missing" in output
    assert "what is left out is not in the copy" not in output


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


@pytest.mark.parametrize("name", ["labels.txt", "labels.csv"])
def test_a_list_without_names_of_columns_is_a_source(
    project: Path, tmp_path: Path, name: str
) -> None:
    separator = "," if name.endswith(".csv") else " "
    rows = "\n".join(f"{n}.jpg{separator}{'cat' if n % 2 else 'dog'}" for n in range(6))
    photos = {f"images/{n}.jpg": str(n).encode() for n in range(6)}
    source = write(tmp_path / "photos", photos | {name: rows.encode()})
    make("pets", str(source / name), "--stay")
    assert toml_of("pets")["table"] == name
    expected = {f"images/{n}.jpg": "cat" if n % 2 else "dog" for n in range(6)}
    assert labels_of("pets") == expected


def test_splits_of_the_source_may_be_ignored(project: Path, tmp_path: Path) -> None:
    """Which makes a class that is in test alone one like the others."""
    photos = {
        f"{x}/{n}.jpg": f"{x}{n}".encode() for x in ("train/a", "train/b", "test/c") for n in "12"
    }
    source = str(write(tmp_path / "photos", photos))
    message = error_of("pets", source, "--stay")
    assert message.endswith(", or give --ignore-splits, and split assigns all images anew")
    output = make("pets", source, "--stay", "--ignore-splits")
    assert "splits: none; split assigns them" in output
    assert "note: the splits of the source are ignored: split assigns all" in output
    assert toml_of("pets")["ignore_splits"] is True
    with open_source(Path("datasets/pets"), "datasets", load_params().acquire) as acquired:
        images = [image for image in acquired.items if isinstance(image, RawImage)]
    assert {(image.label, image.split) for image in images} == {(x, None) for x in "abc"}


def test_splits_that_are_not_there_cannot_be_ignored(project: Path, tmp_path: Path) -> None:
    source = str(write(tmp_path / "photos", PHOTOS))
    message = error_of("pets", source, "--ignore-splits")
    assert f"{source}: --ignore-splits has no effect, because it has no splits" in message
    message = error_of("pets", "--from-urls", "x", "--ignore-splits")
    assert message == "--ignore-splits has no effect on a list of URLs: leave it out"


def test_a_label_that_looks_like_several_may_be_a_class(project: Path, tmp_path: Path) -> None:
    labels = ("cat", "dog", "cat|dog")
    rows = "\n".join(f"{n}.jpg,{labels[n % 3]}" for n in range(9))
    photos = {f"images/{n}.jpg": str(n).encode() for n in range(9)}
    source = str(write(tmp_path / "p", photos | {"t.csv": f"file,label\n{rows}".encode()}))
    message = error_of("pets", source, "--stay")
    assert message.endswith("or give --rename 'cat|dog=cat|dog' if it is a class of its own")
    make("pets", source, "--stay", "--rename", "cat|dog=cat|dog")
    assert set(labels_of("pets").values()) == set(labels)


def test_names_are_examples_of_all_classes_and_splits(project: Path, tmp_path: Path) -> None:
    photos = {
        f"{split}/{label}/{split}{label}{n}.jpg": f"{split}{label}{n}".encode()
        for split in ("train", "test")
        for label in "abc"
        for n in range(12)
    }
    output = make("pets", str(write(tmp_path / "photos", photos)), "--stay")
    names = re.findall(r"^  ((?:train|test)/([abc])/.*)$", output, re.MULTILINE)
    assert len(names) == 10
    assert {(name.split("/")[0], label) for name, label in names} == {
        (split, label) for split in ("train", "test") for label in "abc"
    }


def test_an_ambiguous_source_is_asked_about_on_a_terminal(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = iter(["", "3", "2"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    local.from_files(Request("pets", stay=True), [str(write(tmp_path / "kaggle", KAGGLE))])
    assert "  2  2 classes (cat, dog)  (--label-column 'species')" in capsys.readouterr().out
    assert toml_of("pets")["label_column"] == "species"


DCIM = {f"DCIM/10{n % 2}APPLE/IMG_{n}.HEIC": str(n).encode() for n in range(4)}


def test_folders_of_a_camera_are_refused_with_the_option(project: Path, tmp_path: Path) -> None:
    source = str(write(tmp_path / "phone", DCIM))
    message = error_of("pets", source, "--stay")
    assert message.endswith("; or, if they are the classes, give --pattern '{label}/*'")
    make("pets", source, "--stay", "--pattern", "{label}/*")
    assert set(labels_of("pets").values()) == {"100APPLE", "101APPLE"}


@pytest.mark.parametrize("answer", ["y", "n"])
def test_folders_of_a_camera_are_asked_about_on_a_terminal(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    answers = iter(["", answer])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    source = str(write(tmp_path / "phone", DCIM))
    if answer == "y":
        local.from_files(Request("pets", stay=True), [source])
        assert toml_of("pets")["pattern"] == "{label}/*"
        return
    with pytest.raises(PipelineError, match="phone: sort the photographs into a folder for each"):
        local.from_files(Request("pets", stay=True), [source])


def test_a_table_is_a_source_with_the_images_beside_it(project: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "kaggle", KAGGLE | {"other.csv": b"id,label\n0,a\n1,b"})
    make("pets", str(source / "other.csv"), "--stay")
    assert toml_of("pets")["table"] == "other.csv"
    assert labels_of("pets") == {"train/0.jpg": "a", "train/1.jpg": "b"}


def test_several_tables_are_parts_of_one(project: Path, tmp_path: Path) -> None:
    parts = {f"part-{n}.csv": f"id,label\n{n},{label}".encode() for n, label in enumerate("ab")}
    source = write(tmp_path / "kaggle", KAGGLE | parts)
    make("pets", *(str(source / name) for name in parts), "--stay")
    assert toml_of("pets")["table"] == "part-*.csv"
    assert labels_of("pets") == {"train/0.jpg": "a", "train/1.jpg": "b"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a/train.zip", "a/train.csv"], "a/train.csv is a table beside other sources: unpack the"),
        (["a/train.csv", "b/x.csv"], "several tables should be in one folder: give a folder"),
        (["a"], "it has no images, but archives, such as train.zip: unpack them there"),
        (["b"], "the column 'url' of x.csv has the URLs of photographs: read it with `pipeline"),
        (["b/x.csv"], "the column 'url' of x.csv has the URLs of photographs: read it with `pip"),
        (["c"], "archives, such as t-0.tar: give 'c/*.tar' as the source, or unpack them"),
        (["d"], "archives, such as x.tar.gz: give 'd/x.tar.gz' as the source, or unpack them"),
        (["e"], "labels.xlsx is a spreadsheet, which is not read: save it as a CSV file beside"),
        (["e/labels.xlsx"], "e/labels.xlsx is a spreadsheet, which is not read: save it as a CSV"),
        (["f"], "a/coco.json has the objects in each image with their boxes (COCO), but an image"),
        (["f/a/coco.json"], "f/a/coco.json has the objects in each image with their boxes (COCO)"),
        (["g"], "setid.mat is not read as a table of labels: if it is one, write a CSV file be"),
    ],
)
def test_common_sources_that_cannot_be_read_have_their_own_advice(
    project: Path, words: list[str], message: str
) -> None:
    write(project, {"a/train.zip": b"", "a/train.csv": b"id,label\n0,a\n1,b"})
    write(project, {"b/x.csv": b"url,label\nhttp://a/1,cat\nhttp://a/2,dog"})
    write(project, {"c/t-0.tar": b"", "c/t-1.tar": b"", "c/README.md": b"", "d/x.tar.gz": b""})
    images = {f"{folder}/images/{n}.jpg": b"x" for folder in "efg" for n in range(3)}
    coco = b'{"info": 1, "images": [], "annotations": [], "categories": []}'
    write(project, images | {"e/labels.xlsx": b"PK", "f/a/coco.json": coco, "g/setid.mat": b""})
    assert message in error_of("pets", *words)


def test_classes_that_are_numbers_may_get_names(project: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "a", {f"{n % 2}/{n}.jpg": b"x" for n in range(4)})
    note = "note: classes are numbers: --rename 0=NAME gives one a name"
    assert note in make("pets", str(source), "--stay")
    assert "numbers" not in make(
        "two", str(source), "--stay", "--rename", "0=cat", "--rename", "1=7up"
    )


def test_lists_of_splits_are_in_the_copy(new_project: Project, tmp_path: Path) -> None:
    names = [f"images/{label}/{n}.jpg" for label in ("cat", "dog") for n in range(3)]
    source = write(tmp_path / "food", {name: name.encode() for name in names})
    write(source, {"meta/test.txt": b"cat/0\ndog/2\n"})
    project = new_project.copied(tmp_path / "project")
    output = project.pipeline("new", "food", str(source))
    assert "the splits come from meta/test.txt; all other images are of train" in output
    assert (project.folder / "data/photos/food/meta/test.txt").is_file()


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
    assert "has other files like part-1.zip, part-2.zip: put these into" in error_of(
        "two", str(tmp_path / "part-1.zip"), str(tmp_path / "part-2.zip"), "--stay"
    )


def test_an_archive_that_is_named_twice_is_one(project: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name, data in PHOTOS.items():
            archive.writestr(name, data)
    path = str(tmp_path / "photos.zip")
    make("pets", path, f"{tmp_path}/./photos.zip", "--stay")
    assert toml_of("pets")["path"] == path


def test_a_list_of_urls(project: Path, tmp_path: Path) -> None:
    path = write(tmp_path, {"x.csv": b"link,breed\nhttp://a/1,pug\nhttp://a/2,cat"}) / "x.csv"
    output = make("dogs", "--from-urls", str(path))
    assert "2 images of 2 classes" in output
    assert Path("datasets/dogs/urls.csv").read_bytes() == path.read_bytes()
    assert toml_of("dogs")["path"] == "urls.csv"


@pytest.mark.parametrize("place", ["url", "s3"])
def test_a_list_of_urls_elsewhere(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    data = b"link\tbreed\nhttp://a/1\tpug\nhttp://a/2\tcat"
    monkeypatch.setenv("NO_PROXY", "*")
    params = (project / "params.yaml").read_text().replace("private: false", "private: true")
    (project / "params.yaml").write_text(params)
    with FakeFlickr() as fake, serve_s3() as address:
        use_s3(monkeypatch, address)
        s3fs.S3FileSystem(skip_instance_cache=True).pipe({f"{BUCKET}/x.tsv": data})
        source = f"s3://{BUCKET}/x.tsv" if place == "s3" else fake.serve("x.tsv", data)
        message = "has the URLs of photographs: read it with `pipeline new NAME --from-urls`"
        assert message in error_of("dogs", source)
        assert "2 images of 2 classes" in make("dogs", "--from-urls", source)
    assert Path("datasets/dogs/urls.tsv").read_bytes() == data
    assert toml_of("dogs")["path"] == "urls.tsv"


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
        (["2024", "photos"], "'2024' is not a name for a data set: params.yaml and `-S` would"),
        (["1e5", "photos"], "'1e5' is not a name for a data set: params.yaml and `-S` would"),
        (["null", "photos"], "'null' is not a name for a data set: params.yaml and `-S` would"),
        (["True", "photos"], "'True' is not a name for a data set: params.yaml and `-S` would"),
        (["nan", "photos"], "'nan' is not a name for a data set: params.yaml and `-S` would"),
        (["pets", ""], "the path is empty: name a folder, an archive or a table"),
        (["pets", "file:///photos"], "path=file:///photos is not an address of object storage"),
        (
            ["pets", "--from-flickr", "cat", "--from-flickr", "cat=kitten"],
            "two Flickr searches are for 'cat': join them in one",
        ),
        (["pets"], "give one source"),
        (["pets", "photos", "--from-urls", "x.csv"], "give one source"),
        (["pets", "phtos"], "phtos does not exist (did you mean photos?)"),
        (["pets", "photos", "--pattern", "x"], "--pattern 'x': "),
        (["pets", "photos", "--encoding", "x"], "--encoding 'x': 'x' is no encoding, such as"),
        (["pets", "photos", "--label-column", "x"], "photos: --label-column 'x' has no effect, be"),
        (["pets", "photos", "--file-column", "x"], "the labels come from the folders of the files"),
        (["pets", "photos", "--encoding", "cp1252"], "photos: --encoding 'cp1252' has no effect"),
        (["pets", "photos", "--split", "a=b"], "--split 'a=b': Input should be 'train', 'val' or"),
        (["pets", "photos", "--split", "a"], "--split 'a' is not NAME=VALUE"),
        (["pets", "photos", "--rename", "a=b", "--rename", "a=c"], "--rename is given twice for"),
        (["pets", "photos", "--rename", "ee=b"], 'has no class "ee", which --rename renames: it'),
        (["pets", "--from-flickr", "a", "--split", "a=val"], "--split has no effect on a Flickr"),
        (["pets", "photos", "--table", "x.csv"], "photos: no table in it is x.csv"),
        (["pets", "photos", "--wanted", "90"], "--wanted has no effect on files on disk: leave it"),
        (["pets", "s3://a/b", "--stay"], "--stay has no effect on photographs elsewhere, of which"),
        (
            ["pets", "--from-urls", "x", "--pattern", "x"],
            "--pattern has no effect on a list of",
        ),
        (["pets", "--from-flickr", "a", "--stay"], "--stay has no effect on a Flickr search"),
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
    assert error_of("pets", ".") == "datasets/pets exists: take another name, or move it elsewhere"


@pytest.mark.parametrize(
    ("names", "message", "words", "labels"),
    [
        (
            ["cat/1.jpg", "Cat/2.jpg", "dog/3.jpg"],
            "by --rename cat=Cat for one class, or by --rename Cat=Cat --rename cat=cat for two",
            ["--rename", "cat=Cat"],
            {"Cat", "dog"},
        ),
        (
            ["cat/1.jpg", "dog/2.jpg", "test/3.jpg"],
            "give --pattern '{label}/*' if all of them are classes",
            ["--pattern", "{label}/*"],
            {"cat", "dog", "test"},
        ),
        (
            ["Training/a/1.jpg", "Training/b/2.jpg", "Test/a/3.jpg", "test-multiple_fruits/4.jpg"],
            "--split Test=test --split Training=train --split test-multiple_fruits=test",
            [
                "--split",
                "Test=test",
                "--split",
                "Training=train",
                "--split",
                "test-multiple_fruits=test",
            ],
            {"a", "b"},
        ),
    ],
)
def test_what_is_unclear_is_decided_by_options_of_the_message(
    project: Path, names: list[str], message: str, words: list[str], labels: set[str]
) -> None:
    write(project / "photos", {name: name.encode() for name in names})
    error = error_of("pets", "photos", "--stay")
    assert message in error
    assert "in dataset.toml" not in error
    make("pets", "photos", "--stay", *words)
    assert set(labels_of("pets").values()) == labels


def test_numbers_of_splits_in_a_table_are_named_by_options(project: Path) -> None:
    rows = [f"{n}.jpg,{'ab'[n % 2]},{n % 3}" for n in range(6)]
    table = "\n".join(["file,label,split", *rows]).encode()
    photos = {f"{n}.jpg": str(n).encode() for n in range(6)}
    write(project / "photos", photos | {"x.csv": table})
    options = ["--split", "0=train", "--split", "1=val", "--split", "2=test"]
    message = f"which is no split: say which, such as {' '.join(options)}, or rename the column"
    assert message in error_of("pets", "photos", "--stay")
    make("pets", "photos", "--stay", *options)
    assert toml_of("pets")["splits"] == {"0": "train", "1": "val", "2": "test"}


def test_splits_and_classes_of_a_list_of_urls(project: Path) -> None:
    rows = "url,label,split\nhttp://a/1,pug,0\nhttp://a/2,cat,1\nhttp://a/3,Cat,1"
    write(project, {"x.csv": rows.encode()})
    options = ["--split", "0=train", "--split", "1=test", "--rename", "Cat=cat"]
    assert "3 images of 2 classes" in make("pets", "--from-urls", "x.csv", *options)
    assert toml_of("pets")["labels"] == {"Cat": "cat"}


def korean_zip(path: Path) -> str:
    """A zip as Windows writes it in Korea: two classes, in code page 949."""
    labels = ("\uace0\uc591\uc774", "\uac1c")
    with zipfile.ZipFile(path, "w") as archive:
        for label in labels:
            archive.writestr(f"{'x' * len(label.encode('cp949'))}/{len(label)}.jpg", label)
    data = path.read_bytes()
    for label in labels:
        raw = label.encode("cp949")
        data = data.replace(b"x" * len(raw) + b"/", raw + b"/")
    path.write_bytes(data)
    return str(path)


def test_the_encoding_of_names_in_a_zip_is_asked_for(project: Path, tmp_path: Path) -> None:
    path = korean_zip(tmp_path / "photos.zip")
    message = error_of("pets", path, "--stay")
    assert message.startswith(
        f"{path}: the name \\xb0\\xed\\xbe\\xe7\\xc0\\xcc/3.jpg in it is neither"
    )
    assert "such as --encoding 'cp949' for \uace0\uc591\uc774/3.jpg, " in message
    make("pets", path, "--stay", "--encoding", "cp949")
    assert toml_of("pets")["encoding"] == "cp949"
    assert set(labels_of("pets").values()) == {"\uace0\uc591\uc774", "\uac1c"}


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_name_that_is_not_utf8_is_refused_before_the_copy(project: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {**PHOTOS, os.fsdecode(b"\xc3\xa9/caf\xe9.jpg"): b"x"})
    folder = write(tmp_path / os.fsdecode(b"caf\xe9"), PHOTOS)
    before = entries(project)
    assert error_of("pets", str(source)) == (
        "the name \u00e9/caf\\xe9.jpg is not UTF-8, so it cannot be recorded: rename it"
    )
    assert "caf\\xe9 is not UTF-8" in error_of("pets", str(folder), "--stay")
    assert entries(project) == before


@pytest.mark.parametrize("ignored", [None, "/other\n"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_nothing_is_left_of_a_command_that_ends_early(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    ignored: str | None,
) -> None:
    ignore_file = project / "data/photos/.gitignore"
    ignore_file.parent.mkdir(parents=True)
    if ignored:
        ignore_file.write_text(ignored)
    source = str(write(tmp_path / "photos", PHOTOS))
    before = entries(project)

    def add(*_: str, out: io.StringIO) -> tuple[int, list[str]]:
        ignore_file.write_text(f"{ignored or ''}/pets\n")
        (project / "data/photos/pets.dvc").write_text("outs:\n")
        raise error

    monkeypatch.setattr(dvc, "run", add)
    with pytest.raises(type(error)):
        local.from_files(Request("pets"), [source])
    assert entries(project) - {".cache", ".cache/staging"} == before  # which git ignores
    assert not ignored or ignore_file.read_text() == ignored


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data/photos/own", "data/photos/own is where the copy would be: take another name for"),
        ("data/photos/own/a", "data/photos/own/a is where the copy would be: take another name"),
        ("data", "the copy, data/photos/own, would be among the photographs in data: move them"),
        ("link", "link is where the copy would be: take another name for the data set, or read"),
        ("photos", "data/photos/own exists, and no data set here has this name: it may have"),
    ],
)
def test_photographs_in_the_place_of_the_copy_stay(
    project: Path, source: str, message: str
) -> None:
    write(project / "data/photos/own/a", PHOTOS)
    write(project / "photos", PHOTOS)
    (project / "link").symlink_to(project / "data/photos/own")
    before = facts_of(project)
    assert message in error_of("own", source)
    assert facts_of(project) == before


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serve_s3() as address:
        yield address


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_photographs_in_object_storage_stay_there(
    project: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    use_s3(monkeypatch, s3)
    local_copy = write(tmp_path / "local", PHOTOS)
    address = f"s3://{BUCKET}/{tmp_path.name}"
    files = {f"{address}/{name}": data for name, data in PHOTOS.items()}
    if kind == "archive":
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name, data in PHOTOS.items():
                archive.writestr(name, data)
        address = f"{address}.zip"
        files = {address: (tmp_path / "photos.zip").read_bytes()}
    s3fs.S3FileSystem(skip_instance_cache=True).pipe(files)
    output = make("pets", address)
    assert "the photographs stay there: others need to be able to read the address" in output
    assert toml_of("pets") == {
        "kind": kind,
        "description": f"pets: from {address}.",
        "path": address,
    }
    make("same", str(local_copy), "--stay")
    assert labels_of("pets") == labels_of("same")
    assert len(labels_of("pets")) == len(PHOTOS)


def test_an_address_as_dataset_source_is_refused_with_advice(project: Path) -> None:
    make("pets", str(write(project / "photos", PHOTOS)), "--stay")
    with pytest.raises(PipelineError) as caught:
        check_source(Path("datasets/pets"), "s3://bucket/photos")
    assert str(caught.value) == (
        "dataset.source=s3://bucket/photos is for dataset.toml, because DVC would read it itself: "
        "make a data set of it with `pipeline new NAME s3://bucket/photos`, and with --from-urls "
        "before the address if it is a list of URLs"
    )
