"""Names, commands and paths in README and docs exist."""

import re
import subprocess
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.datasets import dataset_toml
from pipeline.images.header import MEANING, Warn
from pipeline.images.header import RejectReason as Rejected
from pipeline.params import Params, load_params
from pipeline.stages.acquire.photo_list import COLUMNS as LISTED
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.evaluate import test_set
from pipeline.stages.evaluate.intervals import ALONE
from tests import ROOT
from tests.builders.forks import run_dvc
from tests.builders.results import result_of

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
DATASETS = (ROOT / "docs/datasets.md").read_text()
FILTER = (ROOT / "docs/filter_and_split.md").read_text()
PROOF = (ROOT / "docs/proof.md").read_text()
REVIEW = (ROOT / "docs/review.md").read_text()
TRAINING = (ROOT / "docs/training.md").read_text()
SHARED = "".join(
    (ROOT / f"docs/{name}.md").read_text()
    for name in ("after_a_crash", "cluster", "large", "remotes", "scheduled", "server")
)
LINES = [
    line
    for text in (README, DATASETS, FILTER, PROOF, REVIEW, TRAINING, SHARED)
    for line in text.splitlines()
]
DVC_GROUPS = {"exp", "plots", "queue", "remote"}  # of commands
COMMANDS = [line[2:].split("#")[0].strip() for line in LINES if line[:2] == "$ "]


def test_readme_shows_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_every_make_target_in_readme_exists(command: str) -> None:
    subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"-S '?([\w.]+)=", README))))
def test_every_param_in_readme_exists(name: str) -> None:
    assert name in load_params(ROOT / "params.yaml").flat()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("pipeline ")])
def test_every_pipeline_command_in_readme_exists(command: str) -> None:
    _, name, *rest = command.split()
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    for option in (word for word in rest if word.startswith("--")):
        assert option in result.output


def test_every_dvc_command_in_readme_exists() -> None:
    words = [c.split()[1:] for c in COMMANDS if c.startswith("dvc ")]
    for command in {tuple(w[: 2 if w[0] in DVC_GROUPS else 1]) for w in words}:
        assert run_dvc(*command, "--help").returncode == 0, command


def test_few_figures_are_left_in_readmes_table_of_experiments() -> None:
    """More columns do not fit into a terminal of 120 characters, once there are two data sets."""
    (pattern,) = re.findall(r"dvc exp show .*--drop '([^']+)'", README)
    names = [*figure_names(12), *load_params(ROOT / "params.yaml").flat(), "data/clean", "models"]
    left = {name for name in names if not re.match(pattern, name)}
    assert left & set(figure_names(12)) == {"accuracy", "loss", "top_5"}
    assert left >= {"train.lr", "model.backbone", "dataset.name", "features.max_gigabytes"}
    assert not left & {"data/clean", "models"}


def figure_names(classes: int) -> list[str]:
    """The names in metrics.json."""
    names = [f"c{number}" for number in range(classes)]
    result = result_of([0, 1], np.eye(classes)[[0, 0]], names)
    return list(test_set.compute_figures(result, np.full(2, ALONE), {}, 1.0).summary)


def test_no_command_leaves_the_source_of_another_data_set_in_force() -> None:
    named = [command for command in COMMANDS if "-S dataset.name=" in command]
    assert len(named) > 2
    for command in named:
        assert "-S dataset.source=" in command, command


def test_every_data_set_is_in_readmes_table() -> None:
    shipped = {path.parent.name for path in ROOT.glob("datasets/*/dataset.toml")}
    table = README.split("## Data sets")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == shipped


def test_the_architecture_lists_exactly_the_packages() -> None:
    section = ARCHITECTURE.split("## Packages")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([\w/]+)`", section, re.M))
    packages = {path.parent for path in ROOT.glob("pipeline/**/__init__.py")}
    packages |= {path.parent for path in ROOT.glob("pipeline/**/*.html")}
    assert named == {path.relative_to(ROOT).as_posix() for path in packages} - {"pipeline"}


def test_every_path_in_the_architecture_exists() -> None:
    for name in re.findall(r"`((?:pipeline|tests|docs)/[\w./]+)`", ARCHITECTURE):
        assert (ROOT / name).exists(), name


def test_the_architecture_has_at_most_200_lines() -> None:
    lines = ARCHITECTURE.splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) < 120


def test_no_test_module_imports_another() -> None:
    """As CONTRIBUTING.md says: what several tests build is in tests/builders."""
    imports = re.compile(
        r"^from tests\.(?:\w+\.)*test_|^import tests\.(?:\w+\.)*test_", re.MULTILINE
    )
    tests = (ROOT / "tests").rglob("*.py")
    assert [path for path in tests if imports.search(path.read_text())] == []


def test_every_dependency_has_its_reason_in_the_architecture() -> None:
    listed = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M
    )
    assert listed
    names = set(re.findall(r'"([\w.-]+)[^"]*"', listed[1]))
    table = ARCHITECTURE.split("## Dependencies")[1].split("\n## ")[0]
    cells = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.M) for name in row.split(", ")}
    assert names == (cells - {"package"}) | {"numpy"}


def test_every_param_is_typed_and_has_no_default_in_code() -> None:
    for section in Params.model_fields.values():
        assert isinstance(section.annotation, type)
        for name, field in section.annotation.model_fields.items():
            assert field.is_required(), name


KINDS: dict[str, set[type[BaseModel]]] = {
    "folder": {dataset_toml.FolderDataset},
    "archive": {dataset_toml.ArchiveDataset},
    "urls": {dataset_toml.UrlsDataset},
    "flickr": {dataset_toml.FlickrDataset, dataset_toml.SearchTerms},
    "sample": {dataset_toml.SampleDataset, dataset_toml.DigitsDataset},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_kind_is_in_datasets_md(kind: str) -> None:
    section = DATASETS.split(f"### `{kind}`")[1].split("\n#")[0]
    keys = {key for model in KINDS[kind] for key in model.model_fields}
    common = set(re.findall(r"`(\w+)", DATASETS.split("## Kinds")[0]))
    documented_keys = keys - (common & {"kind", "description", "licence", "classes", "labels"})
    of_files = {"splits", "pattern", "table", "file_column"}
    inherited = {"urls": of_files, "flickr": {*of_files, "label_column", "encoding"}}.get(
        kind, set()
    )
    for key in documented_keys - inherited:
        assert f"`{key}`" in section, key


def test_every_kind_is_in_datasets_md() -> None:
    models = get_args(dataset_toml.Dataset)
    kinds = {get_args(model.model_fields["kind"].annotation)[0] for model in models}
    assert kinds == set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^### (.*)", DATASETS, re.M))))


def test_every_reject_reason_and_warning_is_documented_in_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", FILTER.split("### ")[0], re.M) == list(Rejected)
    for warning in Warn:
        assert f"`{warning}`" in FILTER
    assert set(MEANING) == {*Rejected, *Warn}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(?:filter|split)\.(?!csv)\w+", FILTER))))
def test_every_param_of_filter_and_split_md_exists(name: str) -> None:
    assert name in load_params(ROOT / "params.yaml").flat()


def test_training_md_documents_exactly_the_params_of_training() -> None:
    known = set(load_params(ROOT / "params.yaml").flat())
    documented = set(
        re.findall(r"`(?:-S )?((?:images|model|features|head|train|device)\.\w+)", TRAINING)
    )
    assert documented <= known
    expected = {key for key in known if key.split(".")[0] in {"images", "model", "head", "train"}}
    assert expected - documented == {"images.size", "train.seed", "train.epochs"}


def test_every_recipe_is_in_training_md() -> None:
    table = set(re.findall(r"^\| `([\w-]+)` \|", TRAINING, re.M))
    assert {path.stem for path in ROOT.glob("recipes/*.yaml")} <= table


def test_every_skip_reason_is_in_datasets_md() -> None:
    rows = re.findall(r"^\| ((?:`\w+`,? ?)+)\|", DATASETS.split("| reason |")[1], re.M)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(SkipReason)


def test_every_column_of_a_list_is_in_datasets_md() -> None:
    section = DATASETS.split("### `urls`")[1].split("\n#")[0]
    for column in LISTED:
        assert f"`{column}`" in section
