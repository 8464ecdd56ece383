import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.core.errors import PipelineError
from pipeline.network import views
from pipeline.params import Params
from pipeline.stages.features import __main__ as features
from pipeline.stages.features import part
from tests.builders.params import NARROW_RESNET, override

Outputs = dict[str, bytes]


@pytest.fixture
def narrow(dataset: Path, params: Params) -> Params:
    """Params of a small network, also in params.yaml; two views beside that of the evaluation."""
    changed = override(params, **NARROW_RESNET, features__views=2)
    YAML(typ="safe", pure=True).dump(changed.model_dump(), Path("params.yaml"))
    return changed


@pytest.fixture
def on_machine(
    dataset: Path, narrow: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outputs]:
    """Run the stage on the machine of some name, which has a memo of its own."""

    def run(name: str, **options: str) -> Outputs:
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        shutil.rmtree(dataset / "features", ignore_errors=True)
        features.main(dataset / "clean", dataset / "split.csv", dataset / "features", **options)
        return {path.name: path.read_bytes() for path in (dataset / "features").glob("*")}

    return run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


def fail(*_: object) -> None:
    raise AssertionError("the features of an image were computed again")


def test_the_stage_finds_what_parts_computed_on_other_machines(
    on_machine: Callable[..., Outputs],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = on_machine("alone")
    assert alone
    monkeypatch.setenv("PIPELINE_CACHE", str(cache))
    capsys.readouterr()
    for number in (1, 2):
        assert on_machine(f"machine {number}", part=f"{number}/2") == {}
    assert "features: computed part 2 of 2" in capsys.readouterr().out
    files = list(cache.glob("features/*/view_*/*.results"))
    assert {file.parent.name for file in files} == {"view_0", "view_1", "view_2"}
    monkeypatch.setattr(views.Views, "__getitem__", fail)
    assert on_machine("driver") == alone


def test_the_stage_itself_shares_what_it_computes(
    on_machine: Callable[..., Outputs], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_CACHE", str(cache))
    first = on_machine("first")
    monkeypatch.setattr(views.Views, "__getitem__", fail)
    assert on_machine("second") == first


def test_a_machine_with_other_code_or_params_is_refused(on_machine: Callable[..., Outputs]) -> None:
    with pytest.raises(PipelineError, match="--key=0123 is not the key of this machine's results"):
        on_machine("first", part="1/2", key="0123")


@pytest.mark.parametrize("change", [{"features__seed": 9}, {"images__crop_area": [0.3, 1.0]}])
def test_other_augmentation_is_refused_although_the_evaluation_view_is_the_same(
    dataset: Path,
    narrow: Params,
    on_machine: Callable[..., Outputs],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: dict[str, object],
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "driver"))
    key = part.key_of([str(dataset / "clean"), str(dataset / "split.csv"), "-"])
    on_machine("first", part="2/2", key=key)
    YAML(typ="safe", pure=True).dump(override(narrow, **change).model_dump(), Path("params.yaml"))
    with pytest.raises(PipelineError, match=f"--key={key} is not the key of this machine's"):
        on_machine("second", part="2/2", key=key)


def test_a_part_of_nothing_says_so(
    dataset: Path,
    params: Params,
    on_machine: Callable[..., Outputs],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = override(params, **NARROW_RESNET, model__trainable="all")
    YAML(typ="safe", pure=True).dump(trained.model_dump(), Path("params.yaml"))
    assert on_machine("machine", part="1/2") == {}
    line = "features: nothing to store, nothing is frozen, so part 1 of 2 has no work\n"
    assert capsys.readouterr().out == line
