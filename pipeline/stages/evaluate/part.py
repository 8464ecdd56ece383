"""A part of the test images' scores, for a machine of its own."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.distributed.parts import Part, check_key, compute_part, joint_key
from pipeline.params import load_params
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs
from pipeline.stages.evaluate.loaded_network import LoadedNetwork, load_network
from pipeline.stages.evaluate.test_scores import ScoredIds, ScoreMemos, fill, share

AT_ONCE = 16  # shards, at most
STORED = "features are stored, from which the scores take seconds"


def score_part(inputs: EvaluationInputs, part: Part, key: str) -> None:
    """Compute the scores of the test images in a part of the clean shards.

    Args:
        key: Of the scores, where another machine is to use them; "" for any.

    Raises:
        PipelineError: this machine, its code or its params would compute others.
    """
    loaded = _load(inputs)
    if loaded.index.stored:
        print_line(f"evaluate: {STORED}, so {part} has no work")
        return
    memos, ids = ScoreMemos(loaded, inputs), ScoredIds.read(inputs.split_csv)
    check_key(memos.both, key)

    def compute(paths: Sequence[Path]) -> None:
        fill(loaded, inputs.clean, memos, ids, paths)

    paths = shards.paths(inputs.clean)
    count = compute_part(part, paths, share(memos, ids), compute, AT_ONCE)
    print_line(f"evaluate: computed {part}, {count} shards")


def key_of(arguments: Sequence[str]) -> str:
    """The key of the scores that this machine would compute, by the stage's arguments.

    Raises:
        PipelineError: the stage computes them from stored features.
    """
    inputs = EvaluationInputs(*map(Path, arguments[:5]))
    loaded = _load(inputs)
    if loaded.index.stored:
        raise PipelineError(f"{STORED}, so there are no parts of them")
    return joint_key(ScoreMemos(loaded, inputs).both)


def _load(inputs: EvaluationInputs) -> LoadedNetwork:
    return load_network(inputs.models, inputs.features, load_params().device)
