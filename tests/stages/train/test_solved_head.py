"""Heads that are solved: their weights, their figures, and what is refused."""

import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from pipeline.core import history
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, read_groups, read_split, write_split
from pipeline.network import model_folder, scoring
from pipeline.network.examples import read_examples
from pipeline.params import Params
from pipeline.solvers import ridge
from pipeline.solvers.problem import Floats, Problem
from pipeline.stages.train import solved_head
from pipeline.stages.train.solved_head import SolvedHead
from pipeline.stages.train.state import Job
from tests.builders.forks import Fork
from tests.builders.models import compute_features, prepare_job
from tests.builders.params import override
from tests.builders.stages import (
    HISTORY,
    MODELS,
    REPORT,
    evaluate_stage,
    train_stage,
    write_params,
)
from tests.builders.train_stage import NOWHERE

KINDS = ["ridge", "logistic"]


def solve(dataset: Path, params: Params) -> tuple[Job, SolvedHead]:
    job, card, examples = prepare_job(dataset, params)
    head = job.network.get_submodule(card.replaced)
    solved = solved_head.solve(job, head, examples, read_groups(dataset / "split.csv"), params)
    return job, solved


@pytest.mark.parametrize("one_logit", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_solved_head_tells_the_classes_apart(
    dataset: Path, params: Params, kind: str, one_logit: bool
) -> None:
    changed = override(params, head__kind=kind, head__one_logit=one_logit)
    job, solved = solve(dataset, changed)
    record, solution = solved.record, solved.solution
    assert record.val_accuracy > 0.8
    assert record.val_loss < 0.5
    assert (record.train_loss, record.train_accuracy) == (solution.log_loss, solution.accuracy)
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    assert solution.images == len(examples.rows("train")) >= solution.groups
    scores = scoring.logits(job.suffix, job.source, examples.rows("val"))
    accuracy = (scores.argmax(dim=1) == examples.labels[examples.rows("val")]).float().mean()
    assert record.val_accuracy == pytest.approx(float(accuracy))


def test_all_views_of_an_image_are_rows_of_its_group(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[Problem] = []
    fit = ridge.fit

    def spy(problem: Problem, candidates: Floats | None) -> ridge.RidgeFit:
        problems.append(problem)
        return fit(problem, candidates)

    monkeypatch.setattr(ridge, "fit", spy)
    rows = list(read_split(dataset / "split.csv"))
    training = [row for row in rows if row.split == "train"]
    pair = {row.id for row in training[:2]}
    write_split(
        dataset / "split.csv",
        [SplitRow(row.id, row.label, row.split, "pair" if row.id in pair else "") for row in rows],
    )
    solve(dataset, override(params, head__kind="ridge", train__class_weights="balanced"))
    (problem,) = problems
    views = params.features.views + 1
    assert len(problem) == views * len(training)
    assert problem.is_judged.tolist() == [True] * len(training) + [False] * len(training)
    groups = problem.groups.reshape(views, -1)
    assert (groups == groups[0]).all()
    assert len(set(groups[0].tolist())) == len(training) - 1
    features = np.asarray(problem.features[np.arange(len(problem))]).reshape(views, -1)
    assert (features[0] != features[1]).any()
    counts = np.bincount(problem.labels)
    np.testing.assert_allclose(problem.weights, len(problem) / (2 * counts[problem.labels]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_in_params_is_used(dataset: Path, params: Params, kind: str) -> None:
    _, solved = solve(dataset, override(params, head__kind=kind, train__penalty=0.25))
    assert (solved.solution.penalty, solved.solution.penalties) == (0.25, 1)


def test_many_rows_are_in_a_file_with_the_same_result(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = override(params, head__kind="ridge")
    job, solved = solve(dataset, changed)
    monkeypatch.setattr(solved_head, "MAX_MEMORY", 0)
    other, again = solve(dataset, changed)
    assert again == solved
    states = job.suffix.state_dict(), other.suffix.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_network_that_changes_its_scores_is_refused(dataset: Path, params: Params) -> None:
    """squeezenet's last convolution is followed by a ReLU."""
    squeezed = override(
        params,
        head__kind="ridge",
        model__backbone="squeezenet1_1",
        model__weights="none",
        images__size=64,
    )
    with pytest.raises(PipelineError, match="the network changes what its last layer returns"):
        solve(dataset, squeezed)


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_are_not_stored_are_refused(dataset: Path, params: Params, kind: str) -> None:
    streamed = override(params, head__kind=kind, features__max_gigabytes=0.0)
    with pytest.raises(PipelineError, match=f"head.kind={kind} is solved from stored features"):
        solve(dataset, streamed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__trainable": "all"}, "model.trainable = 'all' trains others too: set model.train"),
        ({"model__trainable": "features.18"}, "is solved for one layer, but model.trainable"),
        ({"device__devices": 2}, "is solved in one process: set device.devices=1"),
        ({"device__nodes": 2}, "is solved in one process: set device.devices=1"),
    ],
)
def test_params_that_do_not_go_with_a_solved_head_are_refused(
    params: Params, change: dict[str, object], message: str
) -> None:
    override(params, **change)
    with pytest.raises(PipelineError, match=message):
        override(params, head__kind="logistic", **change)


def test_a_project_with_a_solved_head_runs_from_training_to_report(
    dataset: Path, params: Params
) -> None:
    """Killed at any moment, and with another number of threads, it ends with the same bytes."""
    changed = override(params, head__kind="ridge")
    compute_features(dataset, changed)
    write_params(changed)
    train_stage()
    first = {path: path.read_bytes() for path in (*sorted(MODELS.iterdir()), HISTORY)}
    solution = model_folder.read_card(MODELS).solution
    assert solution is not None
    assert solution.penalties == ridge.PENALTIES
    (record,) = history.read(HISTORY)
    assert record.train_accuracy == solution.accuracy > 0.8
    assert evaluate_stage()["accuracy"] > 0.8
    assert "by epoch" in REPORT.read_text()
    mlflow.set_tracking_uri(f"sqlite:///{dataset.parent / 'mlflow.db'}")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["solution/penalty"] == solution.penalty
    assert run.data.metrics["solution/accuracy"] == solution.accuracy
    assert run.data.metrics["kept/val_loss"] == record.val_loss

    for path in first:
        path.unlink()
    process = Fork(train_stage, ["train"], Path("output.txt"), **NOWHERE)
    time.sleep(0.3)
    process.kill()
    with threadpool_limits(3, user_api="blas"):
        train_stage()
    assert {path: path.read_bytes() for path in first} == first
