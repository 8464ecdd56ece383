"""What cannot work is refused in one sentence, before anything is computed."""

import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.errors import PipelineError
from pipeline.params import Params
from pipeline.stages.check.checks import check
from tests.builders.params import override
from tests.builders.repositories import commit_all, git

FOLDER = 'kind = "folder"\ndescription = "d"\npath = "."\n'
SAMPLE = 'kind = "sample"\ndescription = "d"\nimages_per_class = 10\nseed = 1\n'


@pytest.fixture
def project(world: Path, params: Params) -> Path:
    """A project with two data sets and photographs, whose last training had `params`."""
    for name, text in (("mine", FOLDER), ("sample", SAMPLE)):
        (world / "datasets" / name).mkdir(parents=True)
        (world / f"datasets/{name}/dataset.toml").write_text(text)
    (world / "photos").mkdir()
    values = {"params": {"params.yaml": params.model_dump(mode="json")}}
    YAML().dump({"stages": {"acquire": values, "train": values}}, world / "dvc.lock")
    return world


def test_what_can_work_is_accepted_without_torch(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("network", "device"):
        monkeypatch.setattr(f"pipeline.stages.check.checks._check_{part}", pytest.fail)
    check(params)
    check(override(params, dataset__name="mine", dataset__source="photos"))
    check(override(params, dataset__name="mine", dataset__source="https://example.org/a.zip"))
    check(override(params, dataset__name="mine", train__lr=0.1, head__kind="mlp"))


def test_another_network_is_accepted(project: Path, params: Params) -> None:
    check(override(params, model__backbone="resnet18", model__trainable="layer4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset__name": "mien"}, "datasets/mien/dataset.toml is missing (there are: mine, sam"),
        ({"dataset__name": "mien"}, "did you mean mine?"),
        ({"dataset__source": "photos"}, "dataset.source=photos has no meaning for datasets/sample"),
        (
            {"dataset__name": "mine", "dataset__source": "phots"},
            "dataset.source: phots does not exist (did you mean photos?); give a folder, an arch",
        ),
        (
            {"dataset__name": "mine", "dataset__source": "~/photos"},
            "dataset.source = '~/photos': DVC does not expand ~: write {world}/photos, or use",
        ),
        ({"model__weights": "no.pth"}, "model.weights = 'no.pth' is not a file"),
        (
            {"model__backbone": "resnet19"},
            "model.backbone=resnet19 is not a torchvision classifier",
        ),
        ({"model__trainable": "layer9"}, "model.trainable=layer9 names no layer that runs"),
        (
            {"model__backbone": "resnet9"},
            "model.backbone=resnet9 has no ImageNet weights: set model.weights=none",
        ),
        ({"filter__store_side": 32, "images__size": 64}, "but filter.store_side = 32"),
    ],
)
def test_what_cannot_work_is_refused(
    project: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    message: str,
) -> None:
    monkeypatch.setenv("HOME", str(project))
    with pytest.raises(PipelineError) as caught:
        check(override(params, **changes))
    assert message.replace("{world}", str(project)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_here_is_a_warning(
    project: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data can be prepared on a machine without the GPU that trains."""
    check(override(params, device__accelerator="mps"))
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: device.accelerator=mps with device.precision=32-true")
    assert warning.endswith("; the stages features, train and evaluate need it")


def test_a_head_that_a_killed_experiment_left_is_a_warning(
    project: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    commit_all("first")
    git("checkout", "-q", git("rev-parse", "HEAD"))
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    check(params)
    assert capsys.readouterr().err == (
        "warning: git's HEAD is on no branch, as a killed `dvc exp run` leaves it: `git switch -C "
        "main` returns to main with all that has changed since\n"
    )


def test_a_source_that_dvc_would_read_for_ever_is_refused(project: Path, params: Params) -> None:
    changed = override(params, dataset__name="mine", dataset__source="photos")
    (project / "photos/cat").mkdir()
    (project / "photos/cat/dangling.jpg").symlink_to("nowhere")
    check(changed)
    os.mkfifo(project / "photos/cat/pipe.jpg")
    with pytest.raises(PipelineError, match=r"photos/cat/pipe\.jpg is a pipe and not a file, and"):
        check(changed)
    (project / "photos/cat/pipe.jpg").unlink()
    (project / "photos/cat/zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(PipelineError, match=r"photos/cat/zero\.jpg is a device and not a file"):
        check(changed)


def test_a_source_that_was_read_may_be_gone(project: Path, params: Params) -> None:
    """On another machine, `dvc exp run --allow-missing` needs only what follows from it."""
    changes = {"dataset__name": "mine", "dataset__source": "/gone/photos"}
    changed = override(params, **changes)
    with pytest.raises(PipelineError, match="/gone/photos does not exist"):
        check(changed)
    values = {"params": {"params.yaml": changed.model_dump(mode="json")}}
    YAML().dump({"stages": {"acquire": values, "train": values}}, project / "dvc.lock")
    check(override(changed, train__lr=0.1))


def test_a_relative_source_that_only_the_project_has_needs_an_absolute_path(
    project: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in `dvc exp run --temp`, which works in a copy."""
    copy = project / ".dvc/tmp/exps/1"
    (copy / "datasets/mine").mkdir(parents=True)
    (copy / "datasets/mine/dataset.toml").write_text(FOLDER)
    monkeypatch.chdir(copy)
    with pytest.raises(PipelineError, match="only an absolute path finds it"):
        check(override(params, dataset__name="mine", dataset__source="photos"))
