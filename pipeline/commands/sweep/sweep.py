"""A whole sweep: it goes on where it was, is recorded, and ends with a line to copy."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.sweep import mlflow_runs, search_space, study, summary
from pipeline.commands.sweep import plots as pictures
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, Journal
from pipeline.commands.sweep.mlflow_runs import Sweep
from pipeline.commands.sweep.search_space import Space
from pipeline.commands.sweep.summary import SweepResult
from pipeline.commands.sweep.trainer import StagePaths, Trainer
from pipeline.core import atomic
from pipeline.core.progress import bar
from pipeline.core.terminal import print_table
from pipeline.images import memo
from pipeline.params import Params
from pipeline.stages.train import setup

LIBRARIES = [*setup.LIBRARIES, "numpy", "optuna"]


@dataclass(frozen=True)
class SweepRequest:
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


def sweep(params: Params, wanted: SweepRequest, inputs: StagePaths) -> SweepResult:
    """Train until there are as many trials as wanted; on Ctrl-C say what came of those there are.

    Raises:
        PipelineError: the space, or the features, are not for a sweep; or all trials failed.
    """
    spanned = search_space.parse(wanted.overrides or search_space.default(params), params)
    trainer = Trainer(params, inputs)
    key = fingerprint(trainer, spanned, wanted)
    with (
        Journal(key) as journal,
        mlflow_runs.recording(params, key, wanted.name, spanned, wanted.goal, wanted.seed) as run,
    ):
        found = SweepResult(spanned, wanted.goal, params.train.epochs, journal.ended)
        try:
            _train(trainer, found, wanted, journal, run)
        except KeyboardInterrupt:
            if found.ranked:
                report(found, wanted, run)
            raise
        report(found, wanted, run)
    return found


def fingerprint(trainer: Trainer, spanned: Space, wanted: SweepRequest) -> str:
    """Digest of all that decides what trials come to; of their number, nothing."""
    values = {
        "training": trainer.fingerprint,
        "space": dict(sorted(spanned.texts.items())),
        "goal": wanted.goal.value,
        "seed": wanted.seed,
    }
    return memo.fingerprint(values, [__name__], LIBRARIES)


def _train(
    trainer: Trainer, found: SweepResult, wanted: SweepRequest, journal: Journal, run: Sweep
) -> None:
    with bar("sweep", max(wanted.trials, len(journal.ended)), "trial") as shown:

        def told(one: EndedTrial) -> None:
            run.trial(one)
            if found.ranked:
                shown.set_postfix_str(f"best {found.value(found.winner):.4g}", refresh=False)
            shown.update()

        for one in list(journal.ended):  # also those that MLflow missed
            told(one)
        study.run(trainer, found.space, wanted.goal, wanted.seed, wanted.trials, journal, told)


def report(found: SweepResult, wanted: SweepRequest, run: Sweep) -> None:
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
    print_table(["trial", "val_loss", "val_accuracy", "epoch", "params"], summary.table(found))
    print(f"sweep: {len(found.ended)} trial{'s' * (len(found.ended) > 1)} ({listed})")
    print(summary.weighed(found, shares))
    for told in filter(None, (summary.alike(found), summary.edges(found))):
        print(told)
    print(found.command())


def _write(folder: Path, found: SweepResult, shares: dict[str, float]) -> list[Path]:
    table = folder / "trials.csv"
    names = [*found.space.fixed, *found.space.drawn]
    drawn = pictures.write(folder, found, shares)
    atomic.write_csv(table, [*summary.HEADER, *names], summary.rows(found))
    return [table, *drawn]
