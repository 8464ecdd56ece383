"""A sweep: continue its journal, train, record it in MLflow, print the winner's command."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.commands.sweep import search_space, study, summary
from pipeline.commands.sweep.goal import Goal
from pipeline.commands.sweep.journal import EndedTrial, Journal
from pipeline.commands.sweep.mlflow_runs import SweepRun, open_sweep_run
from pipeline.commands.sweep.plots import write_plots
from pipeline.commands.sweep.search_space import Space
from pipeline.commands.sweep.summary import SweepResult
from pipeline.commands.sweep.trainer import StagePaths, Trainer
from pipeline.core import atomic, shards
from pipeline.core.plurals import plural
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line, print_table
from pipeline.images import memo
from pipeline.params import Params
from pipeline.stages.train import setup

LIBRARIES = [*setup.LIBRARIES, "numpy", "optuna"]


@dataclass(frozen=True)
class SweepRequest:
    """The options of the command."""

    overrides: Sequence[str]
    """In Hydra's grammar; none: `search_space.default`."""
    trials: int
    """In total, with those of earlier runs of the same sweep."""
    goal: Goal
    seed: int
    name: str
    """Of the run in MLflow; "": named after the key."""
    plots: Path | None
    """A folder for the pictures and trials.csv."""


def sweep(params: Params, request: SweepRequest, paths: StagePaths) -> SweepResult:
    """Train until there are `request.trials` trials; on Ctrl-C report those that have ended.

    Raises:
        PipelineError: the space or the features are not fit for a sweep; or all trials failed.
    """
    space = search_space.parse(request.overrides or search_space.default(params), params)
    trainer = Trainer(params, paths)
    key = fingerprint(trainer, space, request)
    sweep_run = SweepRun(params, key, request.name, shards.read_deviation(paths.clean))
    with (
        Journal(key) as journal,
        open_sweep_run(sweep_run, space, request.goal, request.seed) as run,
    ):
        result = SweepResult(space, request.goal, params.train.epochs, journal.trials)
        try:
            _train(trainer, result, request, journal, run)
        except KeyboardInterrupt:
            if result.ranked:
                report(result, request, run)
            raise
        report(result, request, run)
    return result


def fingerprint(trainer: Trainer, space: Space, request: SweepRequest) -> str:
    """Digest of all that decides the results of trials here; their number is left out."""
    values = {
        "training": trainer.fingerprint,
        "space": dict(sorted(space.texts.items())),
        "goal": request.goal.value,
        "seed": request.seed,
    }
    return memo.on_this_machine(memo.fingerprint(values, [study.__name__], LIBRARIES))


def _train(
    trainer: Trainer, result: SweepResult, request: SweepRequest, journal: Journal, run: SweepRun
) -> None:
    with bar("sweep", max(request.trials, len(journal.trials)), "trial") as progress:

        def on_end(trial: EndedTrial) -> None:
            run.add_trial(trial)
            if result.ranked:
                progress.note = f"best {result.value(result.winner):.4g}"
            progress.update()

        for trial in list(journal.trials):  # MLflow may lack some of them
            on_end(trial)
        study.run(
            trainer, result.space, request.goal, request.seed, request.trials, journal, on_end
        )


def report(result: SweepResult, request: SweepRequest, run: SweepRun) -> None:
    """Print the result, draw it, and record both; the last line printed trains the winner.

    Raises:
        PipelineError: no trial is complete.
    """
    shares, counts = result.importances(), result.counts()
    states = ", ".join(f"{number} {name}" for name, number in counts.items())
    value, goal = result.value(result.winner), request.goal.value
    figures = {f"trials.{name}": float(number) for name, number in counts.items()}
    figures |= {f"best.{goal}": value}
    note = (
        f"{plural(len(result.trials), 'trial')} ({states}). Trial {result.winner.number} was the "
        f"best: {goal} {value:.4g}.\n\n    {result.command()}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        run.add_summary(note, figures, _write_files(request.plots or Path(folder), result, shares))
    print_table(["trial", "val_loss", "val_accuracy", "epoch", "params"], summary.table(result))
    print_line(f"sweep: {len(result.trials)} trial{'s' * (len(result.trials) > 1)} ({states})")
    print_line(summary.describe_importances(result, shares))
    for sentence in filter(None, (summary.describe_ties(result), summary.describe_edges(result))):
        print_line(sentence)
    print_line(result.command())


def _write_files(folder: Path, result: SweepResult, shares: dict[str, float]) -> list[Path]:
    pictures = write_plots(folder, result, shares)
    header = [*summary.HEADER, *result.space.fixed, *result.space.distributions]
    atomic.write_csv(folder / "trials.csv", header, summary.csv_rows(result))
    return [folder / "trials.csv", *pictures]
