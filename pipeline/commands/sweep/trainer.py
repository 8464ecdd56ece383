"""Trainings that share features, each equal to stage train's to the last bit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor, nn

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.core.split_csv import read_groups
from pipeline.network import device, examples, feature_store
from pipeline.network.assembly import Assembly
from pipeline.params import Params
from pipeline.stages.train import loop, setup, solved_head
from pipeline.stages.train.calibration_images import draw, set_aside
from pipeline.stages.train.state import Job, weights_of

EARLIER_STAGES = ("acquire", "filter", "split", "features")  # trials start from their results
MAX_HEADS = 16  # in memory
_MISSING = object()  # the value of a key that one side lacks


@dataclass(frozen=True)
class StagePaths:
    """Results of the stages before train."""

    clean: Path
    split_csv: Path
    features: Path


@dataclass(frozen=True)
class _PreparedHead:
    """A training, ready to start."""

    job: Job
    initial: dict[str, Tensor]
    """Weights before the first step."""
    layers: nn.Module
    """The head."""
    dropouts: list[nn.Dropout]
    """Of the head."""


class Trainer:
    """Trains many times on the same features, with the networks in memory."""

    def __init__(self, params: Params, paths: StagePaths) -> None:
        """
        Raises:
            PipelineError: there are no features to share, or they are of other params.
        """
        check_features(params, paths)
        self.params = params
        self._all_examples = examples.read_examples(paths.split_csv, paths.clean)
        self._groups = read_groups(paths.split_csv)
        self._paths = paths
        self._fabric: Fabric = device.start(params.device)
        self._heads: dict[str, _PreparedHead] = {}
        assembly = setup.assemble(params, len(self._all_examples.classes))
        job = self._create_job(params, assembly)
        calibration = draw(paths.split_csv, self._all_examples, params.abstention)
        self.examples = set_aside(self._all_examples, calibration.rows)
        self.fingerprint = setup.fingerprint(params, self.examples, job)
        """Digest of all that decides the result of a training with `params`."""
        self._heads[_head_key(params)] = _prepare_head(assembly, job)

    def fit(self, params: Params) -> Iterator[Record]:
        """Train with other params of head and train.

        Raises:
            PipelineError: the loop or the network refuses them.
        """
        head = self._get_head(params)
        head.job.suffix.load_state_dict(head.initial)
        for layer in head.dropouts:
            layer.p = params.head.dropout
        if params.head.is_solved:
            yield solved_head.solve(
                head.job, head.layers, self.examples, self._groups, params
            ).record
            return
        with device.explain_out_of_memory(f"lower train.batch_size ({params.train.batch_size})"):
            yield from loop.fit(head.job, self.examples, params.train)

    def _get_head(self, params: Params) -> _PreparedHead:
        """Build each head once; the oldest goes when there are too many."""
        key = _head_key(params)
        if key not in self._heads:
            if len(self._heads) == MAX_HEADS:
                del self._heads[next(iter(self._heads))]
            assembly = setup.assemble(params, len(self.examples.classes))
            self._heads[key] = _prepare_head(assembly, self._create_job(params, assembly))
        return self._heads[key]

    def _create_job(self, params: Params, assembly: Assembly) -> Job:
        features, clean = self._paths.features, self._paths.clean
        return setup.prepare(params, assembly, self._all_examples, features, clean, self._fabric)


def _head_key(params: Params) -> str:
    """The params that decide a head and its initial weights; dropout is set on its layers."""
    values = params.head.model_dump(exclude={"dropout"})
    if params.head.kind != "mlp":
        del values["hidden"]
    return f"{values} {params.train.seed}"


def _prepare_head(assembly: Assembly, job: Job) -> _PreparedHead:
    """Drop the frozen part, which may be half a gigabyte: its features are on disk."""
    trained = job.pretrained & set(job.suffix.parameters())
    head = assembly.network.get_submodule(assembly.replaced)
    return _PreparedHead(
        replace(job, network=job.suffix, pretrained=frozenset(trained)),
        weights_of(job.suffix),
        head,
        [layer for layer in head.modules() if isinstance(layer, nn.Dropout)],
    )


def check_features(params: Params, paths: StagePaths) -> None:
    """Check that trials can share the features, and that they are of these params.

    Raises:
        PipelineError: they cannot, or they are not.
    """
    if params.device.devices > 1 or params.device.nodes > 1:
        raise PipelineError(
            f"device.devices={params.device.devices} and device.nodes={params.device.nodes}, but "
            "trials run in one process: set both to 1"
        )
    for path in (paths.split_csv, paths.features / feature_store.INDEX):
        if not path.exists():
            raise PipelineError(f"{path} is missing: run `dvc repro features` first")
    changed = _changed_params(params)
    if changed:
        raise PipelineError(
            f"{paths.features} was made with other params than are in params.yaml now "
            f"({', '.join(changed)}): run `dvc repro features` first"
        )
    index = feature_store.read_index(paths.features)
    feature_store.check_images(
        paths.features, index, examples.read_examples(paths.split_csv, paths.clean)
    )
    if not index.stored:
        raise PipelineError(
            f"{paths.features} has no features for trials to share ({index.why}): freeze more "
            "with model.trainable, raise features.max_gigabytes, or use `dvc exp run --queue`"
        )


def _changed_params(params: Params) -> list[str]:
    """Names of params whose values in dvc.lock differ, for the stages before train."""
    now, lock = params.model_dump(), dvc_lock.read()
    return sorted(
        {
            f"{section}.{key}"
            for stage in EARLIER_STAGES
            for section, values in dvc_lock.params(lock, stage).items()
            for key in {*values, *now.get(section, {})}
            if now.get(section, {}).get(key, _MISSING) != values.get(key, _MISSING)
        }
    )
