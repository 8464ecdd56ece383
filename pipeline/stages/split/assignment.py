"""Where a group of images goes: by share, by number, or by fold. Pure, in any order of input.

Chance is a salted hash of a group's key (`deal.position`), so it does not depend on what else
there is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS, lateness
from pipeline.core.split_csv import SplitRow
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split.groups import Group
from pipeline.stages.split.images import Image


def assign(
    found: Sequence[Group], images: Sequence[Image], params: SplitParams, before: Mapping[int, str]
) -> list[str | None]:
    """The split of each image, None for those that are left out.

    Args:
        before: The split of the rows that an earlier run dealt: it decides where else chance would.
    """
    said = [_prescribed(group, images) if params.prescribed else None for group in found]
    given = {image.split for image in images if params.prescribed} - {None}
    if given and params.folds:
        raise PipelineError(
            f"the source prescribes {' and '.join(sorted(map(str, given)))}, and split.folds deals "
            "anew: set split.prescribed=false for that, or split.folds=null"
        )
    names = [name for name in DEALT if name not in given]
    free = [n for n, name in enumerate(said) if name in {None, "train"}]
    dealt: dict[int, str | None] = dict(enumerate(said))
    if params.exact:
        labels = [image.label for image in images]
        numbered = by_number([found[n] for n in free], labels, names, params)
        dealt |= zip(free, numbered, strict=True)
    elif params.folds:
        dealt |= {n: by_fold(found[n], params) for n in free}
    else:
        # An image that the source says nothing of may go anywhere; one of its train set not to a
        # split that the source has.
        open_to = {n: names if said[n] else DEALT for n in free}
        dealt |= {n: by_share(found[n], open_to[n], params, before) for n in free}
    splits: list[str | None] = [None] * len(images)
    for n, group in enumerate(found):
        for row in group.rows:
            own = images[row].split if params.prescribed else None
            splits[row] = dealt[n] if own in {None, said[n]} else None
    return splits


def _prescribed(group: Group, images: Sequence[Image]) -> str | None:
    """What the source says of a group: of several splits the one whose copy stays."""
    own = {images[row].split for row in group.rows} - {None}
    return max(own, key=lateness, default=None)


def check(labels: Sequence[str], splits: Sequence[str | None]) -> None:
    """Refuse a split that cannot be trained or judged on.

    Raises:
        PipelineError: there is one class only, or a class lacks images in a split.
    """
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise PipelineError(
            f"all images are of the class {classes[0]!r}: a classifier needs at least two classes"
        )
    counts = Counter(zip(labels, splits, strict=True))
    for label in classes:
        for name in SPLITS:
            if not counts[label, name]:
                total = sum(counts[label, other] for other in SPLITS)
                raise PipelineError(
                    f"class {label!r} has no image in {name} (of {total} in all): add images, "
                    "change split.val and split.test, try another split.seed, or, where the "
                    "source prescribes splits, set split.prescribed=false"
                )


def split_rows(
    found: Sequence[Group], images: Sequence[Image], splits: Sequence[str | None], seed: int
) -> Iterator[SplitRow]:
    """The rows of split.csv, by group. A group of one image has no name."""
    for group in found:
        alone = group.keys == [images[group.rows[0]].id]
        name = "" if alone else leader(group.keys, seed)
        for row in group.rows:
            if split := splits[row]:
                yield SplitRow(images[row].id, images[row].label, split, name)


DEALT = ("val", "test")  # whose shares are dealt; train gets the rest
ATTEMPTS = 20  # at exact numbers, each beginning with another group of several classes


def leader(keys: Sequence[str], seed: int) -> str:
    """The key that speaks for its group: by chance, so that large groups test no more often."""
    return min(keys, key=lambda key: unit_interval(f"leader {key}", seed))


def by_share(
    group: Group, names: Sequence[str], params: SplitParams, before: Mapping[int, str]
) -> str:
    """The split of one group, where `names` are those that get shares and train the rest.

    It stays where most of it was before; a new one goes with its leader.

    Args:
        before: The split of rows that were dealt before, by the same shares.
    """
    own = {key: _share(unit_interval(key, params.seed), names, params) for key in group.keys}
    was = Counter(before[row] for row in group.rows if before.get(row) in {*names, "train"})
    most = max(was.values(), default=0)
    foremost = [name for name in SPLITS if was[name] == most]
    led = [key for key in group.keys if own[key] in foremost]
    return own[leader(led, params.seed)] if led and len(foremost) > 1 else foremost[0]


def _share(place: float, names: Sequence[str], params: SplitParams) -> str:
    # From both ends, also where one is not dealt: so neither depends on the other.
    if place < params.val:
        name = "val"
    elif place >= 1 - params.test:
        name = "test"
    else:
        name = "train"
    return name if name in names else "train"


def by_fold(group: Group, params: SplitParams) -> str:
    """The split of one group: fold `chosen.fold` tests, and a share of the others validates."""
    assert params.folds is not None
    key = leader(group.keys, params.seed)
    if int(unit_interval(key, params.seed) * params.folds) == params.fold:
        return "test"
    return "val" if unit_interval(f"val {key}", params.seed) < params.val else "train"


def by_number(
    groups: Sequence[Group], labels: Sequence[str], names: Sequence[str], params: SplitParams
) -> list[str | None]:
    """The split of each group, so that `names` (and train, if it has a number) are exact per class.

    In the order of their leaders' places the groups fill val, from the other end test, then train;
    one that is too large for what a split still wants is passed over. None is left out.

    Raises:
        PipelineError: a split cannot have its number of a class.
    """
    keys = [leader(group.keys, params.seed) for group in groups]
    left = sorted(range(len(groups)), key=lambda n: unit_interval(keys[n], params.seed))
    sizes = [Counter(labels[row] for row in group.rows) for group in groups]
    dealt: list[str | None] = [None] * len(groups)
    for name in (*names, "train"):
        number = getattr(params, name)
        order = left[::-1] if name == "test" else left
        taken = left if number is None else _fill(order, sizes, set(labels), name, number)
        for n in taken:
            dealt[n] = name
        left = [n for n in left if dealt[n] is None]
    return dealt


def _fill(
    order: list[int], sizes: Sequence[Counter[str]], classes: set[str], name: str, number: int
) -> list[int]:
    """Groups that together have exactly `number` images of each class, early ones first.

    Those of several classes are taken as they fit; of one class an exact choice is found if there
    is any.
    """
    mixed = [n for n in order if len(sizes[n]) > 1]
    alone: dict[str, list[int]] = {label: [] for label in sorted(classes)}
    for n in order:
        if len(sizes[n]) == 1:
            alone[next(iter(sizes[n]))].append(n)
    failed = ""
    # A group of several classes may be in the way of an exact sum: begin with another one.
    for start in (*range(min(ATTEMPTS, len(mixed))), len(mixed)):
        lacking, taken = Counter(dict.fromkeys(alone, number)), []
        for n in mixed[start:]:
            if sizes[n] <= lacking:
                taken.append(n)
                lacking -= sizes[n]
        for label, single in alone.items():
            chosen = _exactly(lacking[label], [sizes[n][label] for n in single])
            if chosen is None:
                failed = failed or label
                break
            taken += [single[place] for place in chosen]
        else:
            return taken
    left = sum(sizes[n][failed] for n in order)
    if left < number:
        raise PipelineError(
            f"split.{name} = {number}, but only {left} images of class {failed!r} are left for it: "
            "add images, or lower it"
        )
    raise PipelineError(
        f"split.{name} = {number}, but no choice of whole groups has exactly that many of class "
        f"{failed!r} ({left} images are left for it): add images, or change the number"
    )


def _exactly(number: int, sizes: Sequence[int]) -> list[int] | None:
    """Places whose sizes sum up to `number`, early ones if the rest still can be exact, or None."""
    if max(sizes, default=1) == 1:
        return list(range(number)) if number <= len(sizes) else None
    within = (1 << (number + 1)) - 1
    reachable = [1]  # bit s: sum s can be made of the sizes from here to the end
    for size in reversed(sizes):
        reachable.append((reachable[-1] | (reachable[-1] << size)) & within)
    reachable.reverse()
    chosen, wanted = [], number
    for place, size in enumerate(sizes):
        if size <= wanted and reachable[place + 1] >> (wanted - size) & 1:
            chosen.append(place)
            wanted -= size
    return None if wanted else chosen
