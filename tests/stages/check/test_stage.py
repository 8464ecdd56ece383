"""The stage, as DVC starts it: one sentence, exit code 1, and nothing else runs."""

from pathlib import Path

import pytest

from pipeline.core import stage
from pipeline.params import Params
from pipeline.stages.check.__main__ import TEXT, main
from tests.builders.params import override
from tests.builders.stages import write_params


@pytest.fixture
def sample(world: Path) -> None:
    (world / "datasets/sample").mkdir(parents=True)
    text = 'kind = "sample"\ndescription = "d"\nimages_per_class = 10\nseed = 1\n'
    (world / "datasets/sample/dataset.toml").write_text(text)


def test_its_out_is_always_the_same(
    sample: None, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.check.__main__.check", lambda _: None)
    for rate in (0.1, 0.2):
        write_params(override(params, train__lr=rate))
        main(Path("checked.txt"))
        assert Path("checked.txt").read_text() == TEXT


def test_a_mistake_is_one_sentence(sample: None, params: Params) -> None:
    write_params(override(params, dataset__name="unknown"))
    with pytest.raises(SystemExit) as caught:
        stage.exit_on_failure(lambda: main(Path("checked.txt")))
    assert str(caught.value).startswith("error: datasets/unknown/dataset.toml is missing")
    assert not Path("checked.txt").exists()
