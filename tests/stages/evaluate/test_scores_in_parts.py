"""Scores of test images without stored features: remembered, and computed on other machines."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.distributed.cluster import Work
from pipeline.network import scoring
from pipeline.network.evaluated_suffix import EvaluatedSuffix
from pipeline.network.examples import read_examples
from pipeline.params import Params, load_params
from pipeline.stages.evaluate import __main__ as evaluate
from pipeline.stages.evaluate import part, test_scores, test_set
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs
from tests.builders.models import compute_features
from tests.builders.params import NARROW_RESNET, override
from tests.builders.stages import (
    CLEAN,
    FEATURES,
    HISTORY,
    METRICS,
    MODELS,
    REPORT,
    SPLIT,
    TEST,
    evaluate_stage,
    read_evaluation,
    train_whole_network,
)

INPUTS = EvaluationInputs(MODELS, FEATURES, CLEAN, SPLIT, HISTORY)
ARGUMENTS = [MODELS, FEATURES, CLEAN, SPLIT, HISTORY, METRICS, TEST, REPORT]


@pytest.fixture
def trained(dataset: Path, params: Params) -> Path:
    """A project with a trained network of which nothing is frozen."""
    train_whole_network(dataset, params)
    return dataset.parent


def fail(*_: object) -> None:
    raise AssertionError("the score of an image was computed again")


def test_the_stage_finds_the_scores_that_other_machines_computed(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate_stage()
    alone = read_evaluation()
    with monkeypatch.context() as patch:
        patch.setattr(EvaluatedSuffix, "__call__", fail)
        evaluate_stage()  # remembers
    assert read_evaluation() == alone

    cache = tmp_path / "shared"
    cache.mkdir()
    monkeypatch.setenv("PIPELINE_CACHE", str(cache))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "driver"))
    key = part.key_of(list(map(str, ARGUMENTS)))
    work = capture_work(monkeypatch)
    with monkeypatch.context() as patch:  # a machine that has only what is sent there
        folder = tmp_path / "machine"
        for name, content in work.inputs(shards.paths(CLEAN)).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        shutil.copy("params.yaml", folder)
        shutil.copytree(CLEAN, folder / CLEAN)
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        evaluate.main(*map(Path, work.arguments), part="1/1", key=key)
        printed = capsys.readouterr().out.splitlines()
        assert printed[-1] == "evaluate: computed part 1 of 1, 1 shards"
        assert not (folder / "reports").exists()
    monkeypatch.setattr(EvaluatedSuffix, "__call__", fail)
    evaluate_stage()
    assert read_evaluation() == alone


def capture_work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """What the stage has machines compute, before it computes anything."""

    def stop(work: Work, _: Callable[..., object]) -> None:
        raise InterruptedError(work)

    with monkeypatch.context() as patch:
        patch.setattr(test_scores, "gather", stop)
        with pytest.raises(InterruptedError) as caught:
            evaluate_stage()
    work: Work = caught.value.args[0]
    return work


def test_remembered_scores_are_those_of_the_network(trained: Path) -> None:
    examples = read_examples(SPLIT, CLEAN)
    model = test_set.load_model(MODELS, FEATURES, CLEAN, examples, load_params().device)
    remembered = test_scores.remember_scores(model.halves, INPUTS, examples)
    result = test_set.run_on_test_set(model, examples, remembered)
    scores = np.concatenate([batch.numpy() for batch in remembered.batches()])
    expected = scoring.logits(model.halves.trained, model.source, examples.rows("test")).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    last: Any = model.halves.head
    recomputed = result.embedding @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_allclose(recomputed, scores, atol=1e-4)


def test_parts_of_other_results_are_refused(trained: Path) -> None:
    with pytest.raises(PipelineError, match="--key=0123 is not the key of this machine's results"):
        evaluate.main(*ARGUMENTS, part="1/2", key="0123")


def test_with_stored_features_there_are_no_parts(
    trained: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(FEATURES)
    compute_features(trained / "data", override(params, **NARROW_RESNET))
    evaluate.main(*ARGUMENTS, part="1/2")
    sentence = "evaluate: features are stored, from which the scores take seconds, so part 1 of 2"
    assert capsys.readouterr().out.splitlines() == [f"{sentence} has no work"]
    with pytest.raises(PipelineError, match="so there are no parts of them"):
        part.key_of(list(map(str, ARGUMENTS)))
