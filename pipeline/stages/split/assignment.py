"""Assign groups of images to splits: by share, by number, or by fold.

Pure functions, independent of the order of images. Randomness is a salted hash of a group's keys
(`stable_hash`), so what else is in the data set does not matter: by share, a new image moves others
only where it joins two groups. Shares hold in expectation.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.core.errors import PipelineError
from pipeline.core.shards import SPLITS, split_rank
from pipeline.core.split_csv import SplitRow
from pipeline.core.stable_hash import unit_interval
from pipeline.params import SplitParams
from pipeline.stages.split.groups import Group
from pipeline.stages.split.images import Image

HELD_OUT = ("val", "test")  # splits that have a share; train gets the rest
MAX_ATTEMPTS = 20  # to reach exact numbers; each skips one more group of several classes


def assign(
    groups: Sequence[Group],
    images: Sequence[Image],
    params: SplitParams,
    previous: Mapping[int, str],
) -> list[str | None]:
    """Assign each image to a split, or to None where it is left out.

    Args:
        previous: Splits of the last run, by row, which take precedence over chance.

    Raises:
        PipelineError: the source prescribes splits with folds, or a number cannot be met.
    """
    own = [image.split if params.prescribed else None for image in images]
    source_splits = {split for split in own if split}
    if source_splits and params.folds:
        raise PipelineError(
            f"the source prescribes {' and '.join(sorted(source_splits))}, and split.folds assigns "
            "anew: set split.prescribed=false for that, or split.folds=null"
        )
    # Of a group in several prescribed splits, only the images in the latest one stay.
    prescribed = [max((own[row] for row in group.rows), key=split_rank) for group in groups]
    names = [name for name in HELD_OUT if name not in source_splits]
    labels = [image.label for image in images]
    assigned = _assign_groups(groups, labels, prescribed, names, params, previous)
    splits: list[str | None] = [None] * len(images)
    for group, group_split, prescribed_split in zip(groups, assigned, prescribed, strict=True):
        for row in group.rows:
            splits[row] = group_split if own[row] in {None, prescribed_split} else None
    return splits


def _assign_groups(
    groups: Sequence[Group],
    labels: Sequence[str],
    prescribed: Sequence[str | None],
    names: Sequence[str],
    params: SplitParams,
    previous: Mapping[int, str],
) -> list[str | None]:
    """The split of each group.

    Groups of a prescribed train set may be held out, but only in `names`, the splits that the
    source lacks.
    """
    free = [n for n, split in enumerate(prescribed) if split in {None, "train"}]
    assigned = list(prescribed)
    if params.is_exact:
        numbered = assign_by_number([groups[n] for n in free], labels, names, params)
        for n, split in zip(free, numbered, strict=True):
            assigned[n] = split
    elif params.folds:
        for n in free:
            assigned[n] = assign_by_fold(groups[n], params)
    else:
        for n in free:
            allowed = names if prescribed[n] else HELD_OUT
            assigned[n] = assign_by_share(groups[n], allowed, params, previous)
    return assigned


def check_classes(labels: Sequence[str], splits: Sequence[str | None]) -> None:
    """Refuse a split that cannot be used to train or evaluate.

    Raises:
        PipelineError: there is one class only, or a class has no image in a split.
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
    groups: Sequence[Group], images: Sequence[Image], splits: Sequence[str | None], seed: int
) -> Iterator[SplitRow]:
    """Yield the rows of split.csv, by group. A group of one image has no name."""
    for group in groups:
        is_single = group.keys == [images[group.rows[0]].id]
        name = "" if is_single else choose_leader(group.keys, seed)
        for row in group.rows:
            if split := splits[row]:
                yield SplitRow(images[row].id, images[row].label, split, name)


def choose_leader(keys: Sequence[str], seed: int) -> str:
    """Draw the key whose hash places its group, so that large groups are not in test more often."""
    return min(keys, key=lambda key: unit_interval(f"leader {key}", seed))


def assign_by_share(
    group: Group, names: Sequence[str], params: SplitParams, previous: Mapping[int, str]
) -> str:
    """Assign a group to the split of most of its images in the last run, else of its leader.

    Args:
        names: The splits that get their shares; train gets the rest.
        previous: Splits of the last run, by row.
    """
    split_of = {
        key: _split_at(unit_interval(key, params.seed), names, params) for key in group.keys
    }
    counts = Counter(previous[row] for row in group.rows if previous.get(row) in {*names, "train"})
    most = max(counts.values(), default=0)
    tied = [name for name in SPLITS if counts[name] == most]
    candidates = [key for key in group.keys if split_of[key] in tied]
    if candidates and len(tied) > 1:
        return split_of[choose_leader(candidates, params.seed)]
    return tied[0]


def _split_at(position: float, names: Sequence[str], params: SplitParams) -> str:
    # val from the lower end, test from the upper: changing one share moves no image of the other.
    if position < params.val:
        name = "val"
    elif position >= 1 - params.test:
        name = "test"
    else:
        name = "train"
    return name if name in names else "train"


def assign_by_fold(group: Group, params: SplitParams) -> str:
    """Assign a group: fold `split.fold` tests, and a share of the others validates."""
    assert params.folds is not None
    leader = choose_leader(group.keys, params.seed)
    if int(unit_interval(leader, params.seed) * params.folds) == params.fold:
        return "test"
    return "val" if unit_interval(f"val {leader}", params.seed) < params.val else "train"


def assign_by_number(
    groups: Sequence[Group], labels: Sequence[str], names: Sequence[str], params: SplitParams
) -> list[str | None]:
    """Assign groups so that `names` (and train, if it has a number) are exact per class.

    In the order of their leaders' hashes the groups fill val, from the other end test, then train;
    a group that is too large for the rest of a split is passed over. None is left out.

    Raises:
        PipelineError: a split cannot have its number of a class.
    """
    leaders = [choose_leader(group.keys, params.seed) for group in groups]
    free = sorted(range(len(groups)), key=lambda n: unit_interval(leaders[n], params.seed))
    sizes = [Counter(labels[row] for row in group.rows) for group in groups]
    assigned: list[str | None] = [None] * len(groups)
    for name in (*names, "train"):
        number = getattr(params, name)
        order = free[::-1] if name == "test" else free
        selected = free if number is None else _fill(order, sizes, set(labels), name, number)
        for n in selected:
            assigned[n] = name
        free = [n for n in free if assigned[n] is None]
    return assigned


def _fill(
    order: list[int], sizes: Sequence[Counter[str]], classes: set[str], name: str, number: int
) -> list[int]:
    """Select groups that together have exactly `number` images of each class, early ones first.

    Groups of several classes are taken as they fit; among those of one class, an exact choice is
    found if there is any.
    """
    mixed = [n for n in order if len(sizes[n]) > 1]
    pure: dict[str, list[int]] = {label: [] for label in sorted(classes)}
    for n in order:
        if len(sizes[n]) == 1:
            pure[next(iter(sizes[n]))].append(n)
    failed = ""
    # A group of several classes may prevent an exact sum: start with another one.
    for start in (*range(min(MAX_ATTEMPTS, len(mixed))), len(mixed)):
        missing, selected = Counter(dict.fromkeys(pure, number)), []
        for n in mixed[start:]:
            if sizes[n] <= missing:
                selected.append(n)
                missing -= sizes[n]
        for label, candidates in pure.items():
            subset = _exact_subset(missing[label], [sizes[n][label] for n in candidates])
            if subset is None:
                failed = failed or label
                break
            selected += [candidates[index] for index in subset]
        else:
            return selected
    raise _number_error(name, number, failed, sum(sizes[n][failed] for n in order))


def _number_error(name: str, number: int, label: str, left: int) -> PipelineError:
    if left < number:
        return PipelineError(
            f"split.{name} = {number}, but only {left} images of class {label!r} are left for it: "
            "add images, or lower it"
        )
    return PipelineError(
        f"split.{name} = {number}, but no choice of whole groups has exactly that many of class "
        f"{label!r} ({left} images are left for it): add images, or change the number"
    )


def _exact_subset(number: int, sizes: Sequence[int]) -> list[int] | None:
    """Indices of sizes that sum up to `number`, as early as an exact sum permits, or None."""
    if max(sizes, default=1) == 1:
        return list(range(number)) if number <= len(sizes) else None
    mask = (1 << (number + 1)) - 1
    reachable = [1]  # bit s: the sizes from here to the end have a subset of sum s
    for size in reversed(sizes):
        reachable.append((reachable[-1] | (reachable[-1] << size)) & mask)
    reachable.reverse()
    subset, missing = [], number
    for index, size in enumerate(sizes):
        if size <= missing and reachable[index + 1] >> (missing - size) & 1:
            subset.append(index)
            missing -= size
    return None if missing else subset
