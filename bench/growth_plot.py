"""A log-log plot and a table of what `bench.growth` measured.

    python -m bench.growth_plot docs/growth.png NEW/growth.csv --before OLD/growth.csv

Seconds are of CPU, on all cores together, as other work on the machine changes them least. Their
exponent is fitted to what is above the smallest size, which is a start.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.growth import STAGES, Cost, read_costs

Costs = Mapping[tuple[str, int], Cost]


def of_stage(costs: Costs, stage: str) -> list[Cost]:
    """By number of images."""
    return sorted(
        (cost for cost in costs.values() if cost.stage == stage), key=lambda cost: cost.images
    )


def fit_exponent(costs: list[Cost]) -> float:
    """Slope of seconds beyond those of the smallest size; NaN with fewer than three sizes."""
    first, *rest = costs
    points = [
        (math.log(cost.images - first.images), math.log(cost.cpu_seconds - first.cpu_seconds))
        for cost in rest
        if cost.cpu_seconds > first.cpu_seconds
    ]
    if len(points) < 2:
        return math.nan
    images, seconds = zip(*points, strict=True)
    return statistics.linear_regression(images, seconds).slope


def memory_per_100_000(costs: list[Cost]) -> float:
    """MiB without mapped files that the last 100,000 images took; NaN with one size."""
    if len(costs) < 2:
        return math.nan
    small, large = costs[-2:]
    return (large.private_mib - small.private_mib) / (large.images - small.images) * 100_000


def table(costs: Costs) -> Iterator[str]:
    """Lines of Markdown."""
    sizes = sorted({images for _, images in costs})
    yield f"| stage | {' | '.join(f'{size:,}' for size in sizes)} | exponent | MiB per 100,000 |"
    yield f"|---{'|---' * len(sizes)}|---|---|"
    for stage in STAGES:
        rows = of_stage(costs, stage)
        if rows:
            cells = [_cell(costs.get((stage, size))) for size in sizes]
            cells += [_number(fit_exponent(rows), 2), _number(memory_per_100_000(rows), 0)]
            yield f"| {stage} | {' | '.join(cells)} |"


def _cell(cost: Cost | None) -> str:
    return f"{cost.cpu_seconds:.1f} s, {cost.private_mib:.0f} MiB" if cost else "-"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def draw(path: Path, series: Mapping[str, Costs]) -> None:
    """Plot seconds and memory by images, a line per stage; the first series is solid."""
    figure = Figure(figsize=(11.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    values = ("cpu_seconds", "private_mib")
    labels = ("seconds of CPU", "peak memory without mapped files (MiB)")
    for axes, value, label in zip(figure.subplots(1, 2), values, labels, strict=True):
        for (name, costs), style in zip(series.items(), ("o-", "x:"), strict=False):
            for number, stage in enumerate(STAGES):
                rows = of_stage(costs, stage)
                images = [cost.images for cost in rows]
                heights = [getattr(cost, value) for cost in rows]
                title = f"{stage}, {name}" if len(series) > 1 else stage
                axes.loglog(images, heights, style, color=f"C{number}", label=title)
        axes.set_xlabel("images of 48x48")
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
    handles, titles = axes.get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("png", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    series = {"now": read_costs(options.table)}
    if options.before:
        series["before"] = read_costs(options.before)
    draw(options.png, series)
    for name, costs in series.items():
        print(f"{name}:", "", *table(costs), "", sep="\n")


if __name__ == "__main__":
    main()
