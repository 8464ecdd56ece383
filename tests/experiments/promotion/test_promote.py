"""Promotion in a real registry, from the first champion to a rollback."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.core import dvc_lock, file_digests
from pipeline.core.errors import PipelineError
from pipeline.experiments.predictions import load_predictions
from pipeline.experiments.promotion import alpha_spending, served_model, unseen_images
from pipeline.experiments.promotion import promote as promotion
from pipeline.experiments.promotion.gate import Decision
from pipeline.experiments.promotion.promote import TESTS, promote, roll_back
from pipeline.inference.registered_models import find_folder
from pipeline.params import Params
from pipeline.tracking import provenance, registry, store
from pipeline.tracking.registry import CHALLENGER, CHAMPION, Version
from pipeline.tracking.store import MlflowRun
from tests.builders.params import override
from tests.builders.stages import evaluate_stage, train_stage, write_params
from tests.builders.stores import copy_store

NAME = "sample"


@pytest.fixture(scope="module")
def two_runs(
    tmp_path_factory: pytest.TempPathFactory, evaluated_model: Path, params: Params
) -> Iterator[tuple[MlflowRun, MlflowRun]]:
    """A good model and one that was hardly trained, in a project that is the working directory."""
    folder = tmp_path_factory.mktemp("two-runs")
    shutil.copytree(evaluated_model, folder, dirs_exist_ok=True)
    copy_store(evaluated_model, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_params(override(params, train__lr=1e-6, train__epochs=1, train__seed=3))
        train_stage()
        evaluate_stage()
        store.connect()
        md5 = file_digests.md5(Path("data/split.csv"))
        newest_first = store.search_runs(f"tags.`{provenance.MODELS}` != ''")
        for run in newest_first:  # as if DVC had run the stages
            store.set_tag(run.info.run_id, "data.split", md5)
        second, first = (store.get_run(run.info.run_id) for run in newest_first)
        yield first, second


@pytest.fixture
def runs(
    two_runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[MlflowRun, MlflowRun]]:
    """The two runs; no model is registered."""
    monkeypatch.setattr(promotion, "ask_once", lambda *_: None)  # takes seconds; see below
    yield two_runs
    with suppress(MlflowException):  # there is none
        MlflowClient().delete_registered_model(NAME)


def version_of(alias: str) -> Version:
    version = registry.find_version(NAME, alias)
    assert version is not None
    return version


def test_the_first_model_is_the_champion(runs: tuple[MlflowRun, MlflowRun]) -> None:
    result = promote(runs[0])
    assert result.is_promoted
    assert result.sentence().endswith("version 1: there was no champion")
    assert version_of(CHAMPION) == version_of(CHALLENGER)
    assert version_of(CHAMPION).run_id == runs[0].info.run_id
    again = promote(runs[0])
    assert (again.is_promoted, again.is_champion) == (False, True)
    assert again.sentence().endswith("version 1: it is the champion already")
    assert "promoted" not in again.sentence()
    assert version_of(CHAMPION).tags["promotion.decision"] == "promoted"


def test_a_worse_model_is_not_promoted_and_a_test_counts_once(
    runs: tuple[MlflowRun, MlflowRun],
) -> None:
    promote(runs[0])
    result = promote(runs[1])
    assert result.gate is not None
    assert (result.is_promoted, result.gate.decision) == (False, Decision.NO_DIFFERENCE)
    assert version_of(CHAMPION).tags[TESTS] == "1"
    assert (version_of(CHAMPION).number, version_of(CHALLENGER).number) == ("1", "2")
    repeated = promote(runs[1])
    assert (repeated.is_promoted, repeated.reason) == (False, result.reason)
    assert version_of(CHAMPION).tags[TESTS] == "1"


def test_a_better_model_is_promoted(runs: tuple[MlflowRun, MlflowRun]) -> None:
    """On eight test images no difference is certain enough, so the level is raised here."""
    promote(runs[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alpha_spending, "level", lambda _: 0.2)
        result = promote(runs[0])
    assert result.gate is not None
    assert result.is_promoted, result.sentence()
    champion = version_of(CHAMPION)
    assert (champion.run_id, champion.tags[TESTS]) == (runs[0].info.run_id, "0")


def test_a_dry_run_changes_nothing(runs: tuple[MlflowRun, MlflowRun]) -> None:
    assert promote(runs[0], dry_run=True).sentence().startswith("would be promoted: ")
    assert registry.find_version(NAME, CHAMPION) is None
    promote(runs[0])
    before = version_of(CHAMPION)
    assert promote(runs[1], dry_run=True).sentence().startswith("would not be promoted: ")
    assert (version_of(CHAMPION), version_of(CHALLENGER)) == (before, before)


def test_a_person_promotes_and_rolls_back(runs: tuple[MlflowRun, MlflowRun]) -> None:
    promote(runs[0])
    assert promote(runs[1], because="the new camera").is_promoted
    assert version_of(CHAMPION).tags["promotion.because"] == "the new camera"
    rolled_back, champion = roll_back(NAME)
    assert (rolled_back.number, champion.number) == ("2", "1")
    assert version_of(CHAMPION).number == "1"
    assert promote(runs[1], dry_run=True).sentence().startswith("would not be promoted: ")
    refused = promote(runs[1])
    assert not refused.is_promoted
    assert refused.reason == (
        "a person put another model in its place (rolled back), so a person alone promotes it"
    )
    assert f"`pipeline promote {runs[1].info.run_id[:8]} --because TEXT`" in refused.advice()
    assert promote(runs[1], because="mended").is_promoted
    roll_back(NAME)
    with pytest.raises(PipelineError, match="sample had no champion before version 1"):
        roll_back(NAME)


def test_a_persons_choice_is_not_undone_by_an_earlier_test(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alpha_spending, "level", lambda _: 0.2)
    promote(runs[1])
    assert promote(runs[0]).is_promoted
    promote(runs[1], because="fewer cats")
    assert "(fewer cats)" in promote(runs[0]).reason
    assert version_of(CHAMPION).run_id == runs[1].info.run_id
    assert roll_back(NAME)[1].run_id == runs[0].info.run_id


def test_the_same_bytes_of_another_run_are_the_same_version(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[0])
    promote(runs[1])
    digest = runs[1].data.tags[provenance.MODELS]
    assert registry.register(NAME, runs[0].info.run_id, "m-another", digest).number == "2"
    assert version_of(CHALLENGER).tags["promotion.decision"] == "not promoted"


def test_another_promotion_at_the_same_time_is_noticed(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[0])

    def challenge(*_: object) -> None:  # by another process, after this one has read the champion
        registry.set_tags(version_of(CHAMPION), {TESTS: "7"})

    monkeypatch.setattr(promotion, "ask_once", challenge)
    with pytest.raises(PipelineError, match="challenged by another process meanwhile"):
        promote(runs[1])


def test_without_the_split_of_its_training_a_person_alone_promotes(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy in the run counts only if it is the one that the run recorded."""
    monkeypatch.setattr(unseen_images, "SPLIT", Path("gone.csv"))
    monkeypatch.setattr(store, "load_text", lambda *_: "id,label,split,group\n")
    with pytest.raises(PipelineError, match="which says what its model was trained on"):
        promote(runs[0])
    assert promote(runs[0], because="a reason").is_promoted


def test_a_kill_before_the_last_step_is_made_up_for(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[1])
    with monkeypatch.context() as patch:
        patch.setattr(alpha_spending, "level", lambda _: 0.2)
        patch.setattr(registry, "set_champion", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            promote(runs[0])
    assert version_of(CHAMPION).run_id == runs[1].info.run_id
    assert promote(runs[0]).is_promoted
    assert version_of(CHAMPION).run_id == runs[0].info.run_id


def test_models_that_have_seen_every_test_image_are_not_compared(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(runs[0])
    monkeypatch.setattr(unseen_images, "find_unseen", lambda *_: {})
    with pytest.raises(PipelineError, match="no test image is new to both models"):
        promote(runs[1])


def test_the_champion_has_an_address(runs: tuple[MlflowRun, MlflowRun]) -> None:
    with pytest.raises(PipelineError, match=r"has no model sample@champion: `pipeline promote`"):
        find_folder("@champion")
    promote(runs[0])
    digests = {
        dvc_lock.digest(find_folder(address))
        for address in (
            "@champion",
            "sample@champion",
            "models:/sample@champion",
            "models:/sample/1",
        )
    }
    assert digests == {runs[0].data.tags[provenance.MODELS]}
    assert load_predictions("@champion").images.keys() == load_predictions("models").images.keys()
    photograph = next(Path("reports/test").glob("*.png"))
    result = CliRunner().invoke(app, ["predict", str(photograph), "--model", "@champion"])
    assert result.exit_code == 0, result.output


def test_files_that_are_not_the_runs_are_refused(runs: tuple[MlflowRun, MlflowRun]) -> None:
    promote(runs[0])
    fetched = registry.fetch_model(version_of(CHAMPION).model_id)
    card = registry.model_folder(fetched) / "model.json"
    text = card.read_text()
    card.write_text(text.replace("plain", "brain"))
    with pytest.raises(PipelineError, match="are not those that its run recorded"):
        find_folder("@champion")
    card.write_text(text)


def test_the_logged_model_answers_in_a_process_of_its_own(
    runs: tuple[MlflowRun, MlflowRun],
) -> None:
    folder = registry.fetch_model(registry.find_model(runs[0]))
    served_model.ask_once(folder, ["plain", "striped"])


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise ImportError('no torch')", "ImportError: no torch"),
        ("print('[]')", r"it printed '\[\]"),
        ("""print('[{"label": "plain", "probability": null}]')""", "it printed"),
        ("""print('[{"label": "plain", "probability": 2}]')""", "it answered"),
        ("""print('[{"label": "cat", "probability": 1}]')""", "it answered"),
    ],
)
def test_a_model_without_an_answer_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    monkeypatch.setattr(served_model, "PROGRAM", program)
    with pytest.raises(PipelineError, match=f"does not answer as it would be served .*{problem}"):
        served_model.ask_once(tmp_path, ["plain"])


def test_the_command_says_and_exits(
    runs: tuple[MlflowRun, MlflowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.project.check", lambda: None)
    first, second = (run.info.run_id[:12] for run in runs)
    result = CliRunner().invoke(app, ["promote", first])
    assert (result.exit_code, result.stdout[:20]) == (0, "promoted: sample, ru")
    result = CliRunner().invoke(app, ["promote", second])
    assert (result.exit_code, result.stdout[:24]) == (1, "not promoted: sample, ru")
    advice = result.stdout.splitlines()[1]
    assert advice.startswith(f"`pipeline promote {second[:8]} --because TEXT` promotes it")
    result = CliRunner().invoke(app, ["promote", second, "--because", "a reason"])
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    result = CliRunner().invoke(app, ["promote", "--rollback"])
    assert result.stdout == "the champion of sample is version 1 again, not version 2\n"
