import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.recipe import recipes
from pipeline.core.errors import PipelineError
from tests import ROOT
from tests.builders.params import recipe_params

FAITHFUL = ["ants-bees", "cars-bicycles", "cats-dogs", "cifar10", "flowers"]
# A recipe sets all params of these sections, so that it does not depend on params.yaml; except
# seeds, and params that only affect logging.
SECTIONS = ("images", "model", "head", "train", "features")
FREE = {"train.seed", "train.log_checkpoints", "features.seed", "features.max_gigabytes"}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_each_tutorial_has_a_faithful_recipe_and_a_better_one() -> None:
    assert set(recipes.names()) == {*FAITHFUL, *(f"better-{name}" for name in FAITHFUL)}


@pytest.mark.parametrize("name", [path.stem for path in ROOT.glob("recipes/*.yaml")])
def test_a_recipe_is_valid_and_independent_of_params_yaml(name: str) -> None:
    params = recipe_params(name)
    sections = recipes.read(name).params
    keys = {f"{section}.{key}" for section, values in sections.items() for key in values}
    required = {key for key in params.flat() if key.split(".")[0] in SECTIONS} - FREE
    assert required <= keys
    assert (ROOT / "datasets" / params.dataset.name / "dataset.toml").exists()


@pytest.mark.parametrize("name", FAITHFUL)
def test_a_faithful_recipe_lists_its_deviations(name: str) -> None:
    assert recipes.read(name).deviations


def test_faithful_recipes_have_the_values_of_the_tutorials() -> None:
    flowers, ants, cats, cifar, cars = map(
        recipe_params, ("flowers", "ants-bees", "cats-dogs", "cifar10", "cars-bicycles")
    )
    assert (flowers.model.backbone, flowers.model.trainable) == ("vgg16", "classifier")
    assert (flowers.train.optimizer, flowers.train.lr, flowers.train.epochs) == ("sgd", 0.001, 2)
    assert (flowers.train.momentum, flowers.train.batch_size) == (0.0, 20)
    assert (flowers.images.normalise, flowers.images.parts) == ("none", ["crop"])
    assert (ants.model.backbone, ants.images.size, ants.images.resize) == ("inception_v3", 300, 300)
    assert (ants.train.optimizer, ants.train.lr, ants.train.epochs) == ("rmsprop", 0.001, 30)
    assert (cats.train.optimizer, cats.train.lr, cats.train.batch_size) == ("adam", 0.0005, 4)
    assert (cats.train.validate_every, cats.train.target_accuracy) == (50, 0.9775)
    assert (cats.images.crop_area, cats.images.crop_ratio) == ([0.96, 1.0], [0.95, 1.05])
    assert (cats.images.rotate, cats.images.parts) == (15, ["crop", "rotate", "flip"])
    assert (cifar.model.backbone, cifar.images.normalise) == ("cifar_cnn", "half")
    assert (cifar.train.lr, cifar.train.batch_size, cifar.train.epochs) == (0.01, 20, 30)
    assert (cifar.split.val, cifar.images.parts) == (0.2, [])
    assert (cars.model.replace, cars.model.trainable) == ("classifier", "head")
    assert (cars.head.kind, cars.head.hidden, cars.head.dropout) == ("mlp", 256, 0.5)
    assert cars.head.one_logit
    assert (cars.train.batch_size, cars.train.epochs, cars.images.size) == (100, 5, 64)


def test_the_command_prints_options_on_one_line_and_lists_recipes() -> None:
    result = CliRunner().invoke(app, ["recipe", "cars-bicycles"])
    assert result.exit_code == 0
    assert result.output.count("\n") == 1
    assert shlex.split(result.output)[:2] == ["-S", "dataset.name=cars_bicycles"]
    listing = CliRunner().invoke(app, ["recipe"]).output
    assert [line.split(":")[0] for line in listing.splitlines()] == recipes.names()
    about = CliRunner().invoke(app, ["recipe", "flowers", "--about"]).output
    assert recipes.read("flowers").deviations[0] in about


def test_an_unknown_name_is_reported_with_a_similar_one() -> None:
    with pytest.raises(PipelineError, match=r"is called flower \(did you mean flowers\?\)"):
        recipes.read("flower")


def test_an_invalid_recipe_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/odd.yaml").write_text("about: x\ndeviations: []\nparams: {train: 3}\n")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path / "recipes")
    with pytest.raises(PipelineError, match=r"recipes/odd.yaml: params.train: "):
        recipes.read("odd")
