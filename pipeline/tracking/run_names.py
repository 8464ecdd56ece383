"""The names of runs in MLflow."""

from collections.abc import Mapping

from pipeline.tracking import provenance

TRAINED = "trained"  # the checkpoint with the weights that the model has


def training_name(tags: Mapping[str, str]) -> str:
    """The name of a training's run: that of DVC's experiment, or else repro- and the commit.

    Args:
        tags: Those of `provenance.run_tags`.
    """
    return tags[provenance.EXPERIMENT] or f"repro-{tags[provenance.COMMIT][:7]}"


def queue_name(commit: str) -> str:
    """The name of the parent run of queued and temporary experiments on a commit."""
    return f"queue-{commit[:7]}"


def sweep_name(key: str) -> str:
    """The name of a sweep's run, unless the user gives one; `key` is the sweep's fingerprint."""
    return f"sweep-{key[:8]}"
