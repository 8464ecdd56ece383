"""A part of the features, for a machine of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.terminal import print_line
from pipeline.distributed.parts import Part, check_key, compute_part, joint_key
from pipeline.images.key_index import KeySet
from pipeline.network.examples import Examples, read_examples
from pipeline.network.views import EVALUATION
from pipeline.params import load_params
from pipeline.stages.features.compute import (
    FeatureSettings,
    describe,
    fill,
    frozen_prefix,
    open_memos,
)
from pipeline.stages.features.sharing import share, training_ids

AT_ONCE = 16  # shards, at most


def compute_features_part(
    settings: FeatureSettings, clean: Path, examples: Examples, part: Part, key: str
) -> None:
    """Compute the features of a part of CLEAN's shards.

    Args:
        key: Of the features, where another machine is to use them; "" for any.

    Raises:
        PipelineError: this machine, its code or its params would compute others.
    """
    memos = open_memos(settings)
    check_key(memos.values(), key)
    others = np.setdiff1d(np.arange(len(examples)), examples.rows("train"))
    other_ids = KeySet(examples.ids.take(shards.array(others)))
    evaluation = {EVALUATION: memos[EVALUATION]}
    selections = [(memos, training_ids(examples)), (evaluation, other_ids)]

    def compute(paths: Sequence[Path]) -> None:
        for views, ids in selections:
            fill(settings, clean, views, ids, paths)

    count = compute_part(part, shards.paths(clean), share(memos, examples), compute, AT_ONCE)
    print_line(f"features: computed {part}, {plural(count, 'shard')}")


def key_of(arguments: Sequence[str]) -> str:
    """The key of the features that this machine would compute, by the stage's arguments.

    Raises:
        PipelineError: none are stored.
    """
    clean, split_csv, _ = map(Path, arguments)
    params, examples = load_params(), read_examples(split_csv, clean)
    prefix = frozen_prefix(params)
    index = describe(params, prefix, examples)
    if not index.stored:
        raise PipelineError(f"no features are stored ({index.why}), so there are no parts of them")
    return joint_key(open_memos(FeatureSettings(prefix, params.images, index)).values())
