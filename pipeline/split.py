"""Stage split: who trains, who validates, who tests.

A group's place is a salted hash of its owner, or of its image's id, so by share adding images moves
none that was there, but where a new one joins two groups. Shares hold in expectation.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import atomic, leaks, moves, params, places, shards, stage
from pipeline.errors import PipelineError
from pipeline.grouping import Group, groups
from pipeline.leaks import Image
from pipeline.params import Split
from pipeline.places import DEALT
from pipeline.shards import SPLITS, lateness

COLUMNS = ("id", "label", "split", "group")


def assign(
    found: Sequence[Group], images: Sequence[Image], chosen: Split, before: Mapping[int, str]
) -> list[str | None]:
    """The split of each image, None for those that are left out.

    Args:
        before: The split of the rows that an earlier run dealt: it decides where else chance would.
    """
    said = [_prescribed(group, images) if chosen.prescribed else None for group in found]
    given = {image.split for image in images if chosen.prescribed} - {None}
    if given and chosen.folds:
        raise PipelineError(
            f"the source prescribes {' and '.join(sorted(map(str, given)))}, and split.folds deals "
            "anew: set split.prescribed=false for that, or split.folds=null"
        )
    names = [name for name in DEALT if name not in given]
    free = [n for n, name in enumerate(said) if name in {None, "train"}]
    dealt: dict[int, str | None] = dict(enumerate(said))
    if chosen.exact:
        labels = [image.label for image in images]
        numbered = places.by_number([found[n] for n in free], labels, names, chosen)
        dealt |= zip(free, numbered, strict=True)
    elif chosen.folds:
        dealt |= {n: places.by_fold(found[n], chosen) for n in free}
    else:
        # An image that the source says nothing of may go anywhere; one of its train set not to a
        # split that the source has.
        open_to = {n: names if said[n] else DEALT for n in free}
        dealt |= {n: places.by_share(found[n], open_to[n], chosen, before) for n in free}
    splits: list[str | None] = [None] * len(images)
    for n, group in enumerate(found):
        for row in group.rows:
            own = images[row].split if chosen.prescribed else None
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


def read_images(clean: Path) -> tuple[list[Image], list[Group]]:
    """The clean images, and the groups that must not straddle splits."""
    table = shards.columns(clean, ["id", "name", "label", "split", "near_group", "group"])
    ids, names, labels, splits, near, owners = (column.to_pylist() for column in table.columns)
    images = [Image(*facts) for facts in zip(ids, names, labels, splits, near, strict=True)]
    return images, groups(ids, owners, near)


def lines(
    found: Sequence[Group], images: Sequence[Image], splits: Sequence[str | None], seed: int
) -> list[tuple[Any, ...]]:
    """Of split.csv, sorted by id. A group of one image has no name."""
    rows = []
    for group in found:
        alone = group.keys == [images[group.rows[0]].id]
        name = "" if alone else places.leader(group.keys, seed)
        rows += [(images[row].id, images[row].label, splits[row], name) for row in group.rows]
    return sorted(row for row in rows if row[2])


def main(
    clean: Path,
    verdicts_csv: Annotated[Path, typer.Argument(metavar="VERDICTS")],
    split_csv: Annotated[Path, typer.Argument(metavar="SPLIT")],
    leaks_csv: Annotated[Path, typer.Argument(metavar="LEAKS")],
) -> None:
    """Deal the images of CLEAN to train, val and test, and write SPLIT.

    What the source puts in several splits, by VERDICTS and by likeness, is written to LEAKS.
    """
    chosen = params.load().split
    images, found = read_images(clean)
    verdicts = atomic.read_csv(verdicts_csv)
    leaking = leaks.find(found, images, verdicts) if chosen.prescribed else []
    leaks.gate(leaking, chosen, leaks_csv)
    before = moves.read_before(split_csv)
    held = before if moves.dealt_alike(chosen) else {}
    rows = {row: held[image.id] for row, image in enumerate(images) if image.id in held}
    splits = assign(found, images, chosen, rows)
    check([image.label for image in images], splits)
    moves.report(before, images, splits)
    atomic.write_csv(split_csv, COLUMNS, lines(found, images, splits, chosen.seed))
    counts = Counter(splits)
    print("split: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS))


if __name__ == "__main__":
    stage.run(main)
