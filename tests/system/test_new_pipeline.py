"""From somebody's folder to a report, and to a colleague who has only git and a remote."""

import shutil
from pathlib import Path

import pytest

from pipeline.datasets.dataset_toml import SampleDataset
from pipeline.stages.acquire.sources.sample import draw_images
from tests.project import Project, ran

FAST = (
    "train.epochs=1",
    "features.views=0",
    "images.augment=none",
    "model.backbone=cifar_cnn",
    "model.weights=none",
    "images.size=32",
    "filter.max_reject_fraction=1",
)


def draw(folder: Path) -> None:
    """A Kaggle folder: a table of labels beside a folder of images."""
    rows = ["id,breed"]
    (folder / "train").mkdir(parents=True)
    drawn = draw_images(SampleDataset(kind="sample", description="", images_per_class=20, seed=1))
    for number, image in enumerate(drawn):
        (folder / f"train/{number:04}.jpg").write_bytes(image.data)
        rows.append(f"{number:04},{image.label}")
    (folder / "train.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mine") / "kaggle"
    draw(folder)
    return folder


def test_two_commands_lead_to_a_report_and_a_colleague_goes_on(
    new_project: Project, source: Path, tmp_path: Path
) -> None:
    project = new_project.copied(tmp_path / "project")
    store = tmp_path / "store"
    assert project.dvc("remote", "add", "-d", "store", str(store)).returncode == 0
    output = project.pipeline("new", "pets", str(source))
    assert "labels: from the column 'breed' of train.csv (files by its column 'id')" in output
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "pets")

    project.experiment("pets", "dataset.name=pets", *FAST)
    (run,) = project.runs()
    assert run.data.params["dataset.name"] == "pets"
    for page in ("data", "report"):
        assert "pets" in (project.folder / f"reports/{page}.html").read_text()

    project.git("add", "-A")
    project.git("commit", "-q", "-m", "result")
    assert project.dvc("push").returncode == 0
    moved = source.rename(source.with_name("elsewhere"))
    try:
        colleague = Project.cloned(project, tmp_path / "clone")
        unfetched = colleague.dvc("repro", "--force", "acquire")
        assert unfetched.returncode != 0
        assert (
            "error: the photographs of datasets/pets are not here: fetch them with `dvc pull "
            "datasets/pets/photos.dvc`"
        ) in unfetched.stdout
        assert colleague.dvc("pull").returncode == 0
        assert ran(colleague.dvc("repro").stdout) == []
        again = colleague.dvc("repro", "--force", "acquire")
        count = len(list((source.with_name("elsewhere") / "train").iterdir()))
        assert f"acquire: {count} files (" in again.stdout
        shutil.copy(
            colleague.folder / "data/photos/pets/train/0000.jpg",
            colleague.folder / "data/photos/pets/train/new.jpg",
        )
        table = colleague.folder / "data/photos/pets/train.csv"
        text = table.read_text() + "\nnew,car"
        table.unlink()
        table.write_text(text)
        assert colleague.dvc("add", "data/photos/pets").returncode == 0
        changed = colleague.dvc("repro", "acquire")
        assert f"acquire: {count + 1} files (" in changed.stdout
    finally:
        moved.rename(source)
