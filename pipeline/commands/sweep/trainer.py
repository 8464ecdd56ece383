"""Trainings that share features: each is, to the last bit, what stage train would do."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor, nn

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError
from pipeline.core.history import Record
from pipeline.network import device, examples, feature_store
from pipeline.network.assembly import Assembly
from pipeline.params import Params
from pipeline.stages.train import loop, setup
from pipeline.stages.train.state import Job, weights_of

BEFORE = ("acquire", "filter", "split", "features")  # stages whose results trials start from
MAX_HEADS = 16  # that are kept ready


@dataclass(frozen=True)
class StagePaths:
    """Where the results of the stages before are."""

    clean: Path
    split_csv: Path
    features: Path


@dataclass(frozen=True)
class _Ready:
    """What trains, and the weights that it begins with."""

    job: Job
    fresh: dict[str, Tensor]
    dropouts: list[nn.Dropout]
    """Those of the head."""


class Trainer:
    """Trains again and again on the same features, with one network in memory."""

    def __init__(self, params: Params, inputs: StagePaths) -> None:
        """
        Raises:
            PipelineError: there are no features to share, or they are not those of `params`.
        """
        check(params, inputs)
        self.params = params
        self.examples = examples.read_examples(inputs.split_csv)
        self._inputs = inputs
        self._fabric: Fabric = device.start(params.device)
        self._ready: dict[str, _Ready] = {}
        made = setup.assemble(params, len(self.examples.classes))
        job = self._prepare(params, made)
        self.fingerprint = setup.fingerprint(params, self.examples, inputs.clean, job)
        """Of all that decides what a training with the params as they stand comes to."""
        self._ready[_head(params)] = _ready(made, job)

    def fit(self, params: Params) -> Iterator[Record]:
        """Train with `settings`, of which head and train alone may differ from those given first.

        Raises:
            PipelineError: the loop, or the network, refuses them.
        """
        ready = self._made_ready(params)
        ready.job.suffix.load_state_dict(ready.fresh)
        for layer in ready.dropouts:
            layer.p = params.head.dropout
        with device.explain_out_of_memory(f"lower train.batch_size ({params.train.batch_size})"):
            yield from loop.fit(ready.job, self.examples, params.train)

    def _made_ready(self, params: Params) -> _Ready:
        """Networks are built once for each head; of dropout, a layer's value is enough."""
        key = _head(params)
        if key not in self._ready:
            if len(self._ready) == MAX_HEADS:
                del self._ready[next(iter(self._ready))]
            made = setup.assemble(params, len(self.examples.classes))
            self._ready[key] = _ready(made, self._prepare(params, made))
        return self._ready[key]

    def _prepare(self, params: Params, made: Assembly) -> Job:
        inputs = self._inputs
        return setup.prepare(
            params, made, self.examples, inputs.features, inputs.clean, self._fabric
        )


def _head(params: Params) -> str:
    """What a network, and the weights it begins with, depend on between trials."""
    values = params.head.model_dump(exclude={"dropout"})
    if params.head.kind == "linear":
        del values["hidden"]
    return f"{values} {params.train.seed}"


def _ready(made: Assembly, job: Job) -> _Ready:
    """Without what is frozen, which nobody needs any more: it may be half a gigabyte."""
    trained = job.pretrained & set(job.suffix.parameters())
    head = made.network.get_submodule(made.replaced)
    return _Ready(
        replace(job, network=job.suffix, pretrained=frozenset(trained)),
        weights_of(job.suffix),
        [layer for layer in head.modules() if isinstance(layer, nn.Dropout)],
    )


def check(params: Params, inputs: StagePaths) -> None:
    """Refuse what trials cannot share, or what is not of these params.

    Raises:
        PipelineError: saying what to do.
    """
    if params.device.devices > 1:
        raise PipelineError(
            f"device.devices={params.device.devices}, but trials run in one process: set it to 1"
        )
    for path in (inputs.split_csv, inputs.features / feature_store.INDEX):
        if not path.exists():
            raise PipelineError(f"{path} is missing: run `dvc repro features` first")
    changed = _changed(params)
    if changed:
        raise PipelineError(
            f"{inputs.features} was made with other params than stand in params.yaml now "
            f"({', '.join(changed)}): run `dvc repro features` first"
        )
    index = feature_store.read_index(inputs.features)
    feature_store.check_images(inputs.features, index, examples.read_examples(inputs.split_csv))
    if not index.stored:
        raise PipelineError(
            f"{inputs.features} holds no features for trials to share ({index.why}): freeze more "
            "with model.trainable, raise features.max_gigabytes, or use `dvc exp run --queue`"
        )


def _changed(params: Params) -> list[str]:
    """Names of params that the stages before last ran with other values of, as dvc.lock has it."""
    now, lock = params.model_dump(), dvc_lock.read()
    return sorted(
        {
            f"{section}.{key}"
            for stage in BEFORE
            for section, values in dvc_lock.params(lock, stage).items()
            for key in {*values, *now.get(section, {})}
            if now.get(section, {}).get(key, _NONE) != values.get(key, _NONE)
        }
    )


_NONE = object()  # of a key that one side does not know
