"""Pictures of a sweep. Drawn without pyplot, as those of `charts`."""

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
from pipeline.stages.evaluate import charts

COLUMNS = 3
COLOURS = {TrialState.COMPLETE: "C0", TrialState.PRUNED: "C7"}
JITTER = 0.12  # of a category's width


def write(folder: Path, found: SweepResult, shares: Mapping[str, float]) -> list[Path]:
    """PNGs in `folder`: history.png, slices.png, and importance.png where there are `shares`."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"history.png": history(found), "slices.png": slices(found)}
    if shares:
        drawn["importance.png"] = importance(shares)
    for name, figure in drawn.items():
        charts.save(figure, folder / name)
    return [folder / name for name in drawn]


def importance(shares: Mapping[str, float]) -> Figure:
    """A bar for each param, the longest on top."""
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color="C0")
    axes.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=3)
    axes.set(xlabel="share of the variance between complete trials", xlim=(0, 1.1))
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="x", alpha=0.3)
    return figure


def history(found: SweepResult) -> Figure:
    """The value of each trial in turn, and the best so far."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    _dots(axes, found, lambda one: one.number)
    complete = [one for one in found.ended if one.state is TrialState.COMPLETE]
    values = [found.value(one) for one in complete]
    best = np.minimum.accumulate(values) if _falls(found) else np.maximum.accumulate(values)
    axes.step([one.number for one in complete], best, where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel=found.goal.value)
    _scale(axes, found)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def slices(found: SweepResult) -> Figure:
    """The value of each trial by each param."""
    names = list(found.space.drawn)
    across = min(COLUMNS, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.6 * across + 0.6, 2.9 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in grid.ravel()[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.ravel(), names, strict=False):
        _slice(axes, found, name)
    for axes in grid[:, 0]:
        axes.set(ylabel=found.goal.value)
        _scale(axes, found)
    grid[0, 0].legend(fontsize=8)
    return figure


def _slice(axes: Axes, found: SweepResult, name: str) -> None:
    distribution = found.space.drawn[name]
    axes.set(xlabel=name)
    if isinstance(distribution, CategoricalDistribution):
        chance = np.random.default_rng(0)
        _dots(
            axes,
            found,
            lambda one: (
                distribution.choices.index(one.drawn[name]) + chance.uniform(-JITTER, JITTER)
            ),
        )
        axes.set_xticks(
            range(len(distribution.choices)),
            [str(each) for each in distribution.choices],
            parse_math=False,
        )
        axes.set_xlim(-0.5, len(distribution.choices) - 0.5)
        return
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    _dots(axes, found, lambda one: one.values[name])
    if distribution.log:
        axes.set_xscale("log")


def _dots(axes: Axes, found: SweepResult, place: Callable[[EndedTrial], Any]) -> None:
    for state, colour in COLOURS.items():
        chosen = [one for one in found.ended if one.state is state]
        alpha = 0.8 if state is TrialState.COMPLETE else 0.4
        axes.scatter(
            [place(one) for one in chosen],
            [found.value(one) for one in chosen],
            s=16,
            color=colour,
            alpha=alpha,
            label=state.value,
            linewidths=0,
        )
    best = found.winner
    axes.scatter(
        [place(best)], [found.value(best)], s=110, marker="*", color="C1", zorder=3, label="winner"
    )
    axes.grid(alpha=0.3)


def _falls(found: SweepResult) -> bool:
    return found.goal.direction == "minimize"


def _scale(axes: Axes, found: SweepResult) -> None:
    """Losses by their logarithm: the best may be a hundredth of the usual."""
    values = [found.value(one) for one in found.ended if one.history]
    if _falls(found) and min(values) > 0:
        axes.set_yscale("log")
