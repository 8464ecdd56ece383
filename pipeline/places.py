"""Where a group of images goes: by share, by number, or by fold. Pure, and of any order of input.

Chance is a salted hash of a group's key (`deal.position`), so it does not depend on what else
there is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.deal import position
from pipeline.errors import PipelineError
from pipeline.grouping import Group
from pipeline.params import Split

SPLITS = ("train", "val", "test")
FIRST = ("test", "val")  # whose share is dealt before train gets the rest


def leader(group: Group, seed: int) -> str:
    """The key that speaks for its group: by chance, so that large groups test no more often."""
    return min(group.keys, key=lambda key: position(f"leader {key}", seed))


def by_share(group: Group, names: Sequence[str], chosen: Split, before: Mapping[int, str]) -> str:
    """The split of one group, where `names` are those that get shares and train the rest.

    Where its keys have different places of their own, it stays where (most of) it was before, and
    only else goes with its leader.

    Args:
        before: The split of rows that were dealt before.
    """
    own = {key: _share(position(key, chosen.seed), names, chosen) for key in group.keys}
    led = own[leader(group, chosen.seed)]
    was = Counter(before[row] for row in group.rows if before.get(row) in own.values())
    return max(sorted(was), key=lambda name: (was[name], name == led)) if was else led


def _share(place: float, names: Sequence[str], chosen: Split) -> str:
    edge = 0.0
    for name in names:
        edge += chosen.test if name == "test" else chosen.val
        if place < edge:
            return name
    return "train"


def by_fold(group: Group, chosen: Split) -> str:
    """The split of one group: fold `chosen.fold` tests, and a share of the others validates."""
    assert chosen.folds is not None
    key = leader(group, chosen.seed)
    if int(position(key, chosen.seed) * chosen.folds) == chosen.fold:
        return "test"
    return "val" if position(f"val {key}", chosen.seed) < chosen.val else "train"


def by_number(
    groups: Sequence[Group], labels: Sequence[str], names: Sequence[str], chosen: Split
) -> list[str | None]:
    """The split of each group, so that `names` (and train, if it has a number) are exact per class.

    In the order of their leaders' places the groups fill test, then val, then train; one that is
    too large for what a split still wants goes on to the next. None is left out.

    Raises:
        PipelineError: a split cannot have its number of a class.
    """
    wanted = {name: getattr(chosen, name) for name in (*names, "train")}
    dealt: list[str | None] = [None] * len(groups)
    order = sorted(
        range(len(groups)), key=lambda n: position(leader(groups[n], chosen.seed), chosen.seed)
    )
    classes = sorted({labels[row] for group in groups for row in group.rows})
    for name, number in wanted.items():
        if number is None:
            dealt = [name if split is None else split for split in dealt]
            continue
        lacking = Counter(dict.fromkeys(classes, number))
        for n in order:
            size = Counter(labels[row] for row in groups[n].rows)
            if dealt[n] is None and size <= lacking:
                dealt[n] = name
                lacking -= size
        for label in classes:
            if lacking[label]:
                raise PipelineError(_short(label, name, number, lacking[label]))
    return dealt


def _short(label: str, name: str, number: int, lacking: int) -> str:
    return (
        f"split.{name} = {number}, but of class {label!r} only {number - lacking} images are left "
        "for it (groups that must not straddle splits are taken whole): add images or lower it"
    )
