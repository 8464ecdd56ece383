from pathlib import Path

import pytest

from pipeline.commands.serve.batching import Batcher, ServedModel
from pipeline.commands.serve.limits import Limits
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.models import ModelSource, ModelWatcher
from pipeline.core.errors import PipelineError
from pipeline.inference.decoder_pool import DecoderPool
from tests.builders.services import load_model


class Steps(ModelSource):
    """What each call of `load` does."""

    def __init__(self, *steps: ServedModel | Exception | None) -> None:
        self._steps = iter(steps)

    def load(self) -> ServedModel | None:
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step


def test_a_moved_alias_replaces_the_model_and_an_outage_keeps_it(
    striped_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_model(striped_model / "models")
    second = ServedModel(first.classifier, "stripes version 2")
    outage = PipelineError("MLflow at http://server fails (timed out)")
    metrics = Metrics()
    batcher = Batcher(first, DecoderPool(1), Limits().waiting_images, metrics)
    steps = Steps(None, outage, outage, ConnectionError("reset"), second, outage)
    watcher = ModelWatcher(steps, batcher, metrics)
    names = []
    for _ in range(6):
        watcher.check()
        names.append(batcher.model.name[-1])
    assert names == ["1", "1", "1", "1", "2", "2"]
    lines = capsys.readouterr()
    assert lines.out == "serve: now stripes version 2\n"
    assert lines.err.splitlines() == [
        f"warning: {outage}; stripes version 1 goes on answering",
        "warning: ConnectionError: reset; stripes version 1 goes on answering",
        f"warning: {outage}; stripes version 2 goes on answering",
    ]
    assert "pipeline_serve_model_swaps_total 1" in metrics.text().splitlines()


def test_a_folder_is_served_under_its_name(striped_model: Path) -> None:
    source = ModelSource(str(striped_model / "models"))
    model = source.load()
    assert model is not None
    assert (model.name, source.is_alias) == ("models", False)
