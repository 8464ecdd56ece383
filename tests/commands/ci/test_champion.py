"""`pipeline ci --promote`: what is said, and what a person is asked."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.commands.ci.champion import PromotionOutcome, promote_workspace
from pipeline.core.errors import PipelineError
from pipeline.experiments.promotion.candidate import Candidate
from pipeline.experiments.promotion.gate import Decision
from pipeline.experiments.promotion.promote import Promotion


def promotion(is_borderline: bool) -> Promotion:
    """Of a made-up run."""
    info = SimpleNamespace(run_id="a" * 32, run_name="weekly")
    run: Any = SimpleNamespace(info=info, data=SimpleNamespace(params={"dataset.name": "pets"}))
    decision = Decision.BORDERLINE if is_borderline else Decision.NO_DIFFERENCE
    gate: Any = SimpleNamespace(decision=decision)
    return Promotion(Candidate(run, "m-1", Path("models")), False, "7 gained, 0 lost", gate)


def test_a_borderline_case_asks_a_person() -> None:
    text = PromotionOutcome("not promoted: pets <b>", promotion(is_borderline=True)).issue()
    assert text.startswith("# Should pets get a new champion?\n\nnot promoted: pets &#60;b&#62;\n")
    assert f"$ pipeline compare @champion {'a' * 32}" in text
    assert f'$ pipeline promote {"a" * 12} --because "..."' in text


def test_a_clear_case_asks_nobody() -> None:
    assert PromotionOutcome("not promoted", promotion(is_borderline=False)).issue() == ""
    assert PromotionOutcome("not promoted: no run", None).issue() == ""


def test_a_person_who_is_told_no_learns_how_to_decide() -> None:
    close, clear = (promotion(is_borderline=value).advice() for value in (True, False))
    assert close.startswith("borderline: look at both models, and decide; `pipeline promote aaaa")
    assert "`pipeline promote aaaaaaaa --because TEXT` promotes it all the same" in clear
    assert replace(promotion(is_borderline=False), is_dry_run=True).advice() == ""


def test_an_error_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise PipelineError("MLflow has no run")

    monkeypatch.setattr("pipeline.experiments.run_lookup.find_workspace_run", fail)
    assert promote_workspace() == PromotionOutcome("not promoted: MLflow has no run", None)
