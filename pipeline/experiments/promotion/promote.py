"""Promote the model of a run to champion of its data set, if it is better."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import SplitRow, read_split
from pipeline.core.unicode import to_nfc
from pipeline.experiments.predictions import ModelPredictions, load_predictions
from pipeline.experiments.promotion import alpha_spending, gate, unseen_images
from pipeline.experiments.promotion.candidate import Candidate, find_candidate
from pipeline.experiments.promotion.gate import Decision, GateResult
from pipeline.experiments.promotion.served_model import ask_once
from pipeline.tracking import registry, store
from pipeline.tracking.registry import Version
from pipeline.tracking.store import MlflowRun

# Tags of a version. Of a champion: the number of tests against it, and the champion before it.
TESTS, FORMER = "promotion.tests", "promotion.former"
# Of a challenger: what was decided, and about what, so that nothing is tested twice.
DECISION, REASON, TESTED = "promotion.decision", "promotion.reason", "promotion.tested"
# A person's words: why it was promoted, and that another took its place. The latter holds until a
# person promotes it again.
BECAUSE, DISPLACED, ROLLED_BACK = (
    "promotion.because",
    "promotion.displaced",
    "promotion.rolled_back",
)
PROMOTED, REFUSED = "promoted", "not promoted"


@dataclass(frozen=True)
class Promotion:
    """What was decided about a candidate, and why."""

    candidate: Candidate
    is_promoted: bool
    reason: str
    gate: GateResult | None = None
    """None if nothing was tested."""
    is_champion: bool = False
    """Whether it was before."""
    tested: str = ""
    """What the test was of, as `_describe_test`."""
    version: Version | None = None
    """None if it is not registered, in a dry run."""
    is_dry_run: bool = False

    @property
    def is_borderline(self) -> bool:
        """Whether a person should decide."""
        return self.gate is not None and self.gate.decision is Decision.BORDERLINE

    def advice(self) -> str:
        """How a person can promote what the gate has refused; "" if there is nothing to say."""
        if self.is_promoted or self.is_champion or (self.is_dry_run and not self.is_borderline):
            return ""
        command = f"`pipeline promote {self.candidate.run.info.run_id[:8]} --because TEXT`"
        if self.is_borderline:
            return f"borderline: look at both models, and decide; {command} promotes this one"
        return f"{command} promotes it all the same, and records your reason"

    def sentence(self) -> str:
        """The decision in one sentence."""
        run = self.candidate.run
        model = f"{self.candidate.name}, run {run.info.run_id[:8]} ({run.info.run_name})"
        if self.is_champion:
            return f"{model}, {self.version}: {self.reason}"
        outcome = PROMOTED if self.is_promoted else REFUSED
        if self.is_dry_run:
            outcome = "would be promoted" if self.is_promoted else "would not be promoted"
        if self.version is not None:
            model += f", {self.version}"
        return f"{outcome}: {model}: {self.reason}"


@dataclass(frozen=True)
class PairedTest:
    """What two models predict for the images that neither has seen."""

    champion: Version
    of_champion: ModelPredictions
    of_candidate: ModelPredictions
    description: str
    """The champion's number and the images, for a tag."""


def promote(run: MlflowRun, because: str = "", dry_run: bool = False) -> Promotion:
    """Register the model of a run as challenger; make it the champion if the gate lets it pass.

    Args:
        because: A person's reason: then the model is not tested, but it must answer.
        dry_run: Whether to change nothing in the registry. Such a test counts for nothing.

    Raises:
        PipelineError: the run has no complete result, its model does not answer, or it cannot be
            compared with the champion.
    """
    candidate = find_candidate(run)
    champion = registry.find_version(candidate.name, registry.CHAMPION)
    version = registry.find_digest(candidate.name, candidate.digest)
    if champion is not None and version is not None and champion.number == version.number:
        return Promotion(
            candidate, False, "it is the champion already", is_champion=True, version=version
        )
    ask_once(candidate.folder.parents[1], candidate.read_classes())
    is_tested = champion is not None and not because and not _why_displaced(version)
    test = _predict_both(champion, candidate) if champion is not None and is_tested else None
    if dry_run:
        promotion = _decide(candidate, version, test, because)
        return replace(promotion, version=version, is_dry_run=True)
    with _locked():
        _require_same(champion, registry.find_version(candidate.name, registry.CHAMPION))
        version = _register(candidate, because)
        if test is not None and version.tags.get(TESTED) != test.description:
            registry.set_tags(test.champion, {TESTS: str(_number(test))})  # before the result
        promotion = replace(_decide(candidate, version, test, because), version=version)
        _record(promotion, version, champion, because)
        return promotion


@contextmanager
def _locked() -> Iterator[None]:
    """One promotion at a time; with an MLflow server, of this project's folder alone."""
    with ExitStack() as stack:
        with store.errors_as_sentences():
            stack.enter_context(store.exclusive("promotion"))
        yield


def _require_same(before: Version | None, now: Version | None) -> None:
    """Raise if the champion, or the number of tests against it, changed meanwhile."""
    if before != now:
        raise PipelineError("the champion was challenged by another process meanwhile: try again")


def _register(candidate: Candidate, because: str) -> Version:
    """With the split that the model was trained on: DVC's cache may not have it for ever."""
    run_id = candidate.run.info.run_id
    try:
        store.add_file(run_id, unseen_images.find_split(candidate.run), unseen_images.ARTIFACT)
    except PipelineError:
        if not because:
            raise
    return registry.register(candidate.name, run_id, candidate.model_id, candidate.digest)


def _why_displaced(version: Version | None) -> str:
    """Why a person put another model in the place of this one; "" if nobody did."""
    tags = {} if version is None else version.tags
    return tags.get(ROLLED_BACK, "") or tags.get(DISPLACED, "")


def _decide(
    candidate: Candidate, version: Version | None, test: PairedTest | None, because: str
) -> Promotion:
    if because:
        return Promotion(candidate, True, f"a person decided: {because}")
    if why := _why_displaced(version):
        reason = f"a person put another model in its place ({why}), so a person alone promotes it"
        return Promotion(candidate, False, reason)
    if test is None:
        return Promotion(candidate, True, "there was no champion")
    tags = {} if version is None else version.tags
    if tags.get(TESTED) == test.description:
        was_promoted = tags.get(DECISION) == PROMOTED  # and killed before the last step
        return Promotion(candidate, was_promoted, tags.get(REASON, ""), tested=test.description)
    level = alpha_spending.level(_number(test))
    result = gate.judge(test.of_champion, test.of_candidate, level)
    reason = result.sentence(f"the champion ({test.champion})", "the challenger")
    is_better = result.decision is Decision.BETTER
    return Promotion(candidate, is_better, reason, result, tested=test.description)


def _number(test: PairedTest) -> int:
    """The number of this test, of those against the champion."""
    return int(test.champion.tags.get(TESTS, "0")) + 1


def _predict_both(champion: Version, candidate: Candidate) -> PairedTest:
    former = store.get_run(champion.run_id)
    splits = [read_split(unseen_images.find_split(run)) for run in (former, candidate.run)]
    images = unseen_images.find_unseen(unseen_images.read_test_set(), splits)
    if not images:
        raise PipelineError(
            "no test image is new to both models: acquire more photographs, or promote with "
            "--because TEXT"
        )
    text = "\n".join(f"{row.id} {to_nfc(row.label)} {row.group}" for row in images.values())
    return PairedTest(
        champion,
        _predict(find_candidate(former), images),
        _predict(candidate, images),
        f"{champion.number} {hashlib.sha256(text.encode()).hexdigest()}",
    )


def _predict(candidate: Candidate, rows: Mapping[str, SplitRow]) -> ModelPredictions:
    """The model's predictions for these images: the recorded ones, if they are of all of them.

    Groups are the present ones: those of the record may lack photographs of the same owner.
    """
    predictions = load_predictions(candidate.run.info.run_id)
    if not _are_of(predictions, rows):
        predictions = load_predictions(str(candidate.folder))
    images = {
        key: replace(predictions.images[key], group=row.group)
        for key, row in rows.items()
        if key in predictions.images
    }
    return replace(predictions, images=images)


def _are_of(predictions: ModelPredictions, rows: Mapping[str, SplitRow]) -> bool:
    return all(
        key in predictions.images and predictions.images[key].label == to_nfc(row.label)
        for key, row in rows.items()
    )


def _record(promotion: Promotion, version: Version, champion: Version | None, because: str) -> None:
    """Tag the versions, and last move the alias: a kill leaves the champion that was."""
    decision = PROMOTED if promotion.is_promoted else REFUSED
    tags = {REASON: promotion.reason, DECISION: decision}
    if promotion.tested:
        tags[TESTED] = promotion.tested
    if because:
        tags |= {BECAUSE: because, DISPLACED: "", ROLLED_BACK: ""}
        if champion is not None:
            registry.set_tags(champion, {DISPLACED: because})
    if promotion.is_promoted:
        tags |= {TESTS: "0", FORMER: "" if champion is None else champion.number}
    registry.set_tags(version, tags)
    if promotion.is_promoted:
        registry.set_champion(version)


def roll_back(name: str, because: str = "") -> tuple[Version, Version]:
    """Make the champion before this one the champion again; return this one and that.

    Versions that were rolled back are passed over, and promoted again by a person alone.

    Raises:
        PipelineError: there is no champion, or none before it.
    """
    with _locked():
        champion = registry.find_version(name, registry.CHAMPION)
        if champion is None:
            raise PipelineError(f"{name} has no champion: `pipeline promote` makes one")
        former = _find_former(champion)
        if former is None:
            raise PipelineError(f"{name} had no champion before {champion} to go back to")
        registry.set_tags(champion, {ROLLED_BACK: because or "rolled back"})
        registry.set_tags(former, {DISPLACED: ""})
        registry.set_champion(former)
        return champion, former


def _find_former(champion: Version) -> Version | None:
    """The last champion before this one that was not rolled back."""
    passed, version = {champion.number}, champion
    while (number := version.tags.get(FORMER, "")) and number not in passed:
        former = registry.find_version(champion.name, number)
        if former is None or not former.tags.get(ROLLED_BACK):
            return former
        passed.add(number)
        version = former
    return None
