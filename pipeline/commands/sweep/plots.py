"""Pictures of a sweep, drawn without pyplot.

optuna.visualization.matplotlib (5.0) was tried in its place: of 100 trials it draws the 24 complete
ones and not the 76 pruned ones, losses on a linear scale that puts most of them into a few pixels,
param names that are cut off or overlap. It goes through pyplot, and warns of being experimental.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipeline.commands.sweep.journal import EndedTrial, TrialState
from pipeline.commands.sweep.summary import SweepResult
from pipeline.core.percentages import format_share
from pipeline.stages.evaluate import charts

COLUMNS = 3
COLOURS = {TrialState.COMPLETE: "C0", TrialState.PRUNED: "C7"}
JITTER = 0.12  # of the width of a category


def write_plots(folder: Path, result: SweepResult, shares: Mapping[str, float]) -> list[Path]:
    """Write history.png, slices.png and, if there are shares, importance.png; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"history.png": plot_history(result), "slices.png": plot_slices(result)}
    if shares:
        figures["importance.png"] = plot_importance(shares)
    for name, figure in figures.items():
        charts.save(figure, folder / name)
    return [folder / name for name in figures]


def plot_importance(shares: Mapping[str, float]) -> Figure:
    """A bar for each param, the longest on top."""
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color="C0")
    axes.bar_label(bars, [format_share(shares[name], 0) for name in names], padding=3)
    axes.set(xlabel="share of the variance between complete trials", xlim=(0, 1.1))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="x", alpha=0.3)
    return figure


def plot_history(result: SweepResult) -> Figure:
    """The value of each trial by number, and the best so far."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, result, lambda trial: trial.number)
    numbers = [trial.number for trial in result.complete]
    values = [result.value(trial) for trial in result.complete]
    best = np.minimum.accumulate(values) if _is_loss(result) else np.maximum.accumulate(values)
    axes.step(numbers, best, where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel=result.goal.value)
    _scale_values(axes, result)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def plot_slices(result: SweepResult) -> Figure:
    """The value of each trial by each param."""
    names = list(result.space.distributions)
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.6, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.ravel()[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.ravel(), names, strict=False):
        _plot_slice(axes, result, name)
    for axes in grid[:, 0]:
        axes.set(ylabel=result.goal.value)
        _scale_values(axes, result)
    grid[0, 0].legend(fontsize=8)
    return figure


def _plot_slice(axes: Axes, result: SweepResult, name: str) -> None:
    distribution = result.space.distributions[name]
    axes.set(xlabel=name)
    if isinstance(distribution, CategoricalDistribution):
        _plot_categories(axes, result, name, distribution)
        return
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    _scatter(axes, result, lambda trial: trial.values[name])
    if distribution.log:
        axes.set_xscale("log")


def _plot_categories(
    axes: Axes, result: SweepResult, name: str, distribution: CategoricalDistribution
) -> None:
    random, choices = np.random.default_rng(0), distribution.choices
    _scatter(
        axes,
        result,
        lambda trial: choices.index(trial.sampled[name]) + random.uniform(-JITTER, JITTER),
    )
    labels = [str(choice) for choice in choices]
    axes.set_xticks(range(len(choices)), labels, parse_math=False)
    axes.set_xlim(-0.5, len(choices) - 0.5)


def _scatter(axes: Axes, result: SweepResult, x_of: Callable[[EndedTrial], Any]) -> None:
    for state, colour in COLOURS.items():
        trials = [trial for trial in result.trials if trial.state is state]
        axes.scatter(
            [x_of(trial) for trial in trials],
            [result.value(trial) for trial in trials],
            s=16,
            color=colour,
            alpha=0.8 if state is TrialState.COMPLETE else 0.4,
            label=state.value,
            linewidths=0,
        )
    x, y = x_of(result.winner), result.value(result.winner)
    axes.scatter([x], [y], s=110, marker="*", color="C1", zorder=3, label="winner")
    axes.grid(alpha=0.3)


def _is_loss(result: SweepResult) -> bool:
    return result.goal.direction == "minimize"


def _scale_values(axes: Axes, result: SweepResult) -> None:
    """Draw losses on a logarithmic scale: the best may be a hundredth of the usual."""
    values = [result.value(trial) for trial in result.trials if trial.history]
    if _is_loss(result) and min(values) > 0:
        axes.set_yscale("log")
