"""Parts of a stage's work, each on a machine of its own.

`python -m pipeline.stages.STAGE ... --part 2/8` computes the results of every eighth shard, and
nothing else: they go into the memo, and where PIPELINE_CACHE is set to machines that share it. The
stage as DVC runs it then finds them, and it alone writes outputs.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import PipelineError
from pipeline.distributed.shared_results import SharedResults
from pipeline.images.memo import Memo

SECONDS = 5  # between two publications, about


@dataclass(frozen=True)
class Part:
    """One of several parts of the work, each on a machine of its own: every `count`-th shard."""

    number: int
    """From 1."""
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read a part such as "2/8".

        Raises:
            PipelineError: it is malformed.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise PipelineError(f"--part={text} is not a part such as 2/8, the second of eight")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"

    def select(self, paths: Sequence[Path]) -> list[Path]:
        """The shards of this part."""
        return list(paths[self.number - 1 :: self.count])


def compute_part(
    part: Part,
    paths: Sequence[Path],
    shared: SharedResults,
    compute: Callable[[Sequence[Path]], None],
    at_once: int,
) -> int:
    """Compute the results of a part and publish them as they come; return its number of shards.

    Args:
        paths: All shards.
        compute: Puts results of some shards into the memos.
        at_once: The most shards between two publications: what a killed part loses. They are
            one, and more while they take less than `SECONDS`: each call of `compute` costs time.
    """
    selected = part.select(paths)
    start, count = 0, 1
    while group := selected[start : start + count]:
        began = time.monotonic()
        shared.fetch(group)
        compute(group)
        shared.publish(group)
        start += len(group)
        if time.monotonic() - began < SECONDS:
            count = min(2 * count, at_once)
    return len(selected)


def joint_key(memos: Iterable[Memo]) -> str:
    """A key that differs if that of one of the memos does."""
    names = " ".join(memo.name for memo in memos)
    return hashlib.sha256(names.encode()).hexdigest()[:20]


def check_key(memos: Iterable[Memo], key: str) -> None:
    """Refuse to compute results that the machine that asks for them would not use.

    Args:
        key: That machine's `joint_key`; "" for any.

    Raises:
        PipelineError: this one's differs.
    """
    own = joint_key(memos)
    if key and own != key:
        raise PipelineError(
            f"--key={key} is not the key of this machine's results ({own}): its processor or GPU, "
            "params.yaml, code or the versions of its packages differ from those of the machine "
            "that runs the stage; use machines of one type, with one environment"
        )
