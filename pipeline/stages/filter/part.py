"""A part of the judgements, for a machine of its own."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import shards
from pipeline.core.plurals import plural
from pipeline.core.terminal import print_line
from pipeline.distributed.parts import Part, check_key, compute_part, joint_key
from pipeline.distributed.shared_cache import open_shared_cache
from pipeline.distributed.shared_results import SharedResults, SharedSelection
from pipeline.images.memo import Memo
from pipeline.params import FilterParams, load_params
from pipeline.stages.filter.judge_all import judge_all, open_memo

AT_ONCE = 8  # shards, at most


def share(judgements: Memo) -> SharedResults:
    """The judgements, as machines share them."""
    return SharedResults(open_shared_cache(), "filter", [SharedSelection(judgements)])


def judge_part(raw: Path, params: FilterParams, part: Part, key: str) -> None:
    """Judge the images of a part of RAW's shards.

    Args:
        key: Of the judgements, where another machine is to use them; "" for any.

    Raises:
        PipelineError: this machine, its code or its params would compute others.
    """
    judgements = open_memo(params)
    check_key([judgements], key)

    def compute(paths: Sequence[Path]) -> None:
        deque(judge_all(raw, params, judgements, paths), maxlen=0)

    count = compute_part(part, shards.paths(raw), share(judgements), compute, AT_ONCE)
    print_line(f"filter: judged {part}, {plural(count, 'shard')}")


def key_of(_: Sequence[str]) -> str:
    """The key of the judgements that this machine would make, whatever the stage's arguments."""
    return joint_key([open_memo(load_params().filter)])
