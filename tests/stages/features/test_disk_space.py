import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.params import Params
from pipeline.stages.features import __main__ as features
from pipeline.stages.features.disk_space import Price
from tests.builders.features import feature_index
from tests.builders.params import NARROW_RESNET, override


def price(views: int = 4, dtype: str = "float32", images: int = 1_000_000) -> Price:
    """Of images with 1,280 activations, of which 70 % train and 15 % validate."""
    index = feature_index(views=views, shapes=[[1280]], dtype=dtype)
    return Price(index, images, images * 7 // 10, images * 15 // 100)


def test_the_price_names_size_views_and_images() -> None:
    assert price().describe() == (
        "19.5 GB for the evaluation view of 1000000 images and 4 augmented views of 700000 "
        "training images"
    )
    assert price(views=0).describe().endswith(" GB for the evaluation view of 1000000 images")
    assert (
        price(views=1, images=1)
        .describe()
        .endswith("of 1 image and 1 augmented view of 0 training images")
    )
    assert price(images=1000).describe().startswith("19.5 MB for ")


@pytest.mark.parametrize(
    ("limit", "command"),
    [
        (19, "`dvc exp run -S features.views=3` stores 15.9 GB"),
        (10, "`dvc exp run -S features.views=1` stores 8.7 GB"),
        (8, "`dvc exp run -S features.max_gigabytes=20` stores them"),
    ],
)
def test_past_the_limit_the_cost_of_an_epoch_and_what_avoids_it_are_named(
    limit: float, command: str
) -> None:
    assert price().describe_streaming(limit) == (
        f"{price().describe()} is more than features.max_gigabytes={limit}, so each epoch runs "
        f"the frozen part for 850000 images; {command} instead"
    )


def set_free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    usage = SimpleNamespace(free=int(gigabytes * 1e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize("missing", [0, 1_000_000])
def test_the_disk_needs_room_for_features_and_what_the_memo_lacks(
    missing: int, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 19.456 + missing * 5120 / 1e9
    set_free(monkeypatch, needed + 0.001)
    price().check_disk(world / "data/features", missing)
    set_free(monkeypatch, needed - 0.001)
    with pytest.raises(PipelineError) as caught:
        price().check_disk(world / "data/features", missing)
    assert str(caught.value).startswith(f"the features and their memo need {needed:.3g} GB on the ")
    assert str(caught.value).endswith(
        f"where {needed - 0.001:.3g} GB are free: make room, or store less with `dvc exp run -S "
        "features.views=1`"
    )


@pytest.mark.parametrize(
    ("facts", "option"),
    [
        ({"views": 2}, "features.views=1"),
        ({"views": 1}, "features.dtype=float16"),
        ({"views": 1, "dtype": "float16"}, "features.max_gigabytes=0"),
    ],
)
def test_the_refusal_names_an_option_that_stores_less(
    facts: dict[str, Any], option: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, 1)
    with pytest.raises(PipelineError, match=option):
        price(**facts).check_disk(world, 0)


def run(dataset: Path, params: Params) -> None:
    Path("params.yaml").write_text(params.model_dump_json())
    features.main(dataset / "clean", dataset / "split.csv", dataset / "features")


def test_a_full_disk_is_noticed_before_any_work_and_the_features_stay(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = override(params, **NARROW_RESNET)
    (dataset / "features").mkdir()
    (dataset / "features" / "old").touch()
    set_free(monkeypatch, 0)
    with pytest.raises(PipelineError, match="0 GB are free"):
        run(dataset, narrow)
    assert [path.name for path in (dataset / "features").iterdir()] == ["old"]
    assert not list(Path(".cache").rglob("*.arrow"))


def test_the_price_comes_first_and_the_limit_is_a_warning(
    dataset: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = override(params, **NARROW_RESNET)
    run(dataset, narrow)
    lines = capsys.readouterr().out.splitlines()
    assert " and 1 augmented view of " in lines[0]
    assert lines[-1].startswith("features: stored, by ")
    run(dataset, override(narrow, features__max_gigabytes=1e-9))
    assert "each epoch runs the frozen part for " in capsys.readouterr().err
    run(dataset, override(narrow, features__max_gigabytes=0.0))
    assert capsys.readouterr().err == ""
