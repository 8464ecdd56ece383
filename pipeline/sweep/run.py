"""A whole sweep: it goes on where it was, is recorded, and ends with a line to copy."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, memo, train
from pipeline.params import Params
from pipeline.printable import show
from pipeline.progress import bar
from pipeline.sweep import goal as goals
from pipeline.sweep import journal as journals
from pipeline.sweep import outcome, pictures, recorded, space, study, trials
from pipeline.sweep.goal import Goal
from pipeline.sweep.journal import Ended, Journal
from pipeline.sweep.outcome import Outcome
from pipeline.sweep.recorded import Sweep
from pipeline.sweep.space import Space
from pipeline.sweep.trials import Inputs, Trainer

LIBRARIES = [*train.LIBRARIES, "numpy", "optuna"]


@dataclass(frozen=True)
class Wanted:
    """What somebody asked for."""

    overrides: Sequence[str]
    """In Hydra's grammar; none: `space.default`."""
    trials: int
    """That there are to be in the end."""
    goal: Goal
    seed: int
    name: str
    """Of the run in MLflow, "" for one after the key."""
    plots: Path | None
    """A folder for the pictures and trials.csv."""


def sweep(settings: Params, wanted: Wanted, inputs: Inputs) -> Outcome:
    """Train until there are as many trials as wanted; on Ctrl-C say what came of those there are.

    Raises:
        PipelineError: the space, or the features, are not for a sweep; or all trials failed.
    """
    spanned = space.parse(wanted.overrides or space.default(settings), settings)
    trainer = Trainer(settings, inputs)
    key = fingerprint(trainer, spanned, wanted)
    with (
        Journal(key) as journal,
        recorded.recording(
            settings, key, wanted.name, spanned, wanted.goal, wanted.seed
        ) as run,
    ):  # fmt: skip
        found = Outcome(spanned, wanted.goal, settings.train.epochs, journal.ended)
        try:
            _train(trainer, found, wanted, journal, run)
        except KeyboardInterrupt:
            if found.ranked:
                report(found, wanted, run)
            raise
        report(found, wanted, run)
    return found


def fingerprint(trainer: Trainer, spanned: Space, wanted: Wanted) -> str:
    """Digest of all that decides what trials come to; of their number, nothing."""
    values = {
        "training": trainer.fingerprint, "space": dict(sorted(spanned.texts.items())),
        "goal": wanted.goal.value, "seed": wanted.seed,
    }  # fmt: skip
    return memo.fingerprint(values, [goals, journals, space, study, trials], LIBRARIES)


def _train(
    trainer: Trainer, found: Outcome, wanted: Wanted, journal: Journal, run: Sweep
) -> None:  # fmt: skip
    with bar("sweep", max(wanted.trials, len(journal.ended)), "trial") as shown:

        def told(one: Ended) -> None:
            run.trial(one)
            if found.ranked:
                shown.set_postfix_str(f"best {found.value(found.winner):.4g}", refresh=False)
            shown.update()

        for one in list(journal.ended):  # also those that MLflow missed
            told(one)
        study.run(
            trainer, found.space, wanted.goal, wanted.seed, wanted.trials, journal, told
        )  # fmt: skip


def report(found: Outcome, wanted: Wanted, run: Sweep) -> None:
    """Print what came of it, draw it, and record both; the last line trains the winner.

    Raises:
        PipelineError: no trial has trained to its end.
    """
    shares, counts = found.importances(), found.counts()
    listed = ", ".join(f"{number} {name}" for name, number in counts.items())
    figures = {f"trials.{name}": float(number) for name, number in counts.items()}
    figures |= {f"best.{wanted.goal.value}": found.value(found.winner)}
    note = (
        f"{len(found.ended)} trials ({listed}). Trial {found.winner.number} was the best: "
        f"{wanted.goal.value} {found.value(found.winner):.4g}.\n\n    {found.command()}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        files = _write(wanted.plots or Path(folder), found, shares)
        run.summary(note, figures, files)
    show(["trial", "val_loss", "val_accuracy", "epoch", "params"], outcome.table(found))
    print(f"sweep: {len(found.ended)} trial{'s' * (len(found.ended) > 1)} ({listed})")
    print(outcome.weighed(found, shares))
    for told in filter(None, (outcome.alike(found), outcome.edges(found))):
        print(told)
    print(found.command())


def _write(folder: Path, found: Outcome, shares: dict[str, float]) -> list[Path]:
    table = folder / "trials.csv"
    names = [*found.space.fixed, *found.space.drawn]
    drawn = pictures.write(folder, found, shares)
    atomic.write_csv(table, [*outcome.HEADER, *names], outcome.rows(found))
    return [table, *drawn]
