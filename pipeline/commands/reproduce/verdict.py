"""Compare a reproduction with the run: outputs by digest, accuracy and loss by value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.core import dvc_lock
from pipeline.experiments import metrics_json
from pipeline.experiments.dvc_results import METRICS
from pipeline.tracking import provenance
from pipeline.tracking.store import MlflowRun

COMPARED_METRICS = ("accuracy", "loss")
HEADER = ["stage", "", "same bytes", "other bytes"]


@dataclass(frozen=True)
class ReproducedStage:
    name: str
    is_computed: bool
    """Else its outputs were restored from the cache."""
    same: Sequence[str]
    """Outputs with the bytes that the run had."""
    different: Sequence[str]
    """Outputs with other bytes."""

    def row(self) -> list[str]:
        """Cells below `HEADER`."""
        action = "computed" if self.is_computed else "restored"
        return [self.name, action, ", ".join(self.same), ", ".join(self.different)]


@dataclass(frozen=True)
class Reproduction:
    """A run made again, compared with the run."""

    run_id: str
    stages: Sequence[ReproducedStage]
    """In the order of the pipeline; only those with outputs that the run has digests of."""
    metrics: Mapping[str, tuple[float, float]]
    """Of the test set: the run's, and the reproduction's."""
    tolerance: float
    """Of these metrics."""
    without_digest: Sequence[str] = ()
    """Outputs that the run has no digest of."""

    @property
    def is_identical(self) -> bool:
        return not any(stage.different for stage in self.stages)

    @property
    def is_equal(self) -> bool:
        """Whether the metrics are within the tolerance."""
        return bool(self.metrics) and all(
            abs(now - before) <= self.tolerance for before, now in self.metrics.values()
        )

    def verdict(self) -> str:
        """In one sentence."""
        metrics = ", ".join(
            f"{name} {before:.4f} then and {now:.4f} now"
            for name, (before, now) in self.metrics.items()
        )
        if self.is_identical:
            count = sum(len(stage.same) for stage in self.stages)
            note = (
                f"; the run has no digest of {', '.join(self.without_digest)}"
                if self.without_digest
                else ""
            )
            return f"identical: all {count} outputs have the same bytes ({metrics}){note}"
        first = next(stage for stage in self.stages if stage.different)
        cause = f"the first stage that differs is {first.name} ({', '.join(first.different)})"
        if self.is_equal:
            return f"equal within {self.tolerance:g}: {metrics}; {cause}"
        return f"different: {metrics or 'no metrics to compare'}; {cause}"


def compare_with_run(
    run: MlflowRun,
    digests: Mapping[str, str],
    folder: Path,
    computed_stages: Sequence[str],
    tolerance: float,
) -> Reproduction:
    """Compare the outputs in `folder` with the run's.

    Args:
        digests: The run's, by tag.
    """
    lock = dvc_lock.read(folder / "dvc.lock")
    stages, without_digest = list[ReproducedStage](), list[str]()
    for name in YAML(typ="safe", pure=True).load(folder / "dvc.yaml")["stages"]:
        outs = {
            path: md5 for path, md5 in dvc_lock.outs(lock, name).items() if (folder / path).exists()
        }
        expected = {path: digests.get(provenance.digest_tag(path)) for path in outs}
        same = [path for path, md5 in outs.items() if expected[path] == md5]
        different = [path for path, md5 in outs.items() if expected[path] not in (None, md5)]
        without_digest += [path for path in outs if expected[path] is None]
        if same or different:
            is_computed = name in computed_stages
            stages.append(ReproducedStage(name, is_computed, same, different))
    metrics = _compare_metrics(run, metrics_json.parse((folder / METRICS).read_text()))
    return Reproduction(run.info.run_id, stages, metrics, tolerance, without_digest)


def _compare_metrics(
    run: MlflowRun, metrics: Mapping[str, float | None]
) -> dict[str, tuple[float, float]]:
    """The metrics that both have: the run's and those in `metrics`."""
    pairs = {}
    for name in COMPARED_METRICS:
        before, now = run.data.metrics.get(f"test/{name}"), metrics.get(name)
        if before is not None and now is not None:
            pairs[name] = (before, now)
    return pairs
