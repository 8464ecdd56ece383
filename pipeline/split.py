"""Stage split: who trains, who validates, who tests.

A group's place is a salted hash of its owner, or of its image's id, so adding images moves none
that was there, but for those whose group a new one joins to another's. Shares hold in expectation.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import atomic, leaks, params, places, project, shards, stage
from pipeline.errors import PipelineError
from pipeline.grouping import Group, groups
from pipeline.leaks import Image, Kind, Leak
from pipeline.params import Split
from pipeline.places import FIRST, SPLITS

COLUMNS = ("id", "label", "split", "group")
MOVED = ("id", "label", "before", "now")
NAMED = 5  # moves and leaks that are told one by one; the files have all


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
    names = [name for name in FIRST if name not in given]
    free = [n for n, name in enumerate(said) if name in {None, "train"}]
    dealt = dict(enumerate(said))
    if chosen.exact:
        labels = [image.label for image in images]
        numbered = places.by_number([found[n] for n in free], labels, names, chosen)
        dealt |= zip(free, numbered, strict=True)
    for n in free if not chosen.exact else ():
        # An image that the source says nothing of may go anywhere; one of its train set not to a
        # split that the source has.
        open_to = names if said[n] else FIRST
        dealt[n] = (
            places.by_fold(found[n], chosen) if chosen.folds
            else places.by_share(found[n], open_to, chosen, before)
        )  # fmt: skip
    splits: list[str | None] = [None] * len(images)
    for n, group in enumerate(found):
        for row in group.rows:
            own = images[row].split if chosen.prescribed else None
            splits[row] = dealt[n] if own in {None, said[n]} else None
    return splits


def _prescribed(group: Group, images: Sequence[Image]) -> str | None:
    """What the source says of a group: of several splits the one whose copy stays."""
    own = {images[row].split for row in group.rows} - {None}
    return min(own, key=lambda name: leaks.RANK[str(name)]) if own else None


def find_leaks(
    found: Sequence[Group], images: Sequence[Image], verdicts: Sequence[Mapping[str, str]]
) -> list[Leak]:
    """What stands in several of the splits that the source prescribes.

    Args:
        verdicts: The rows of verdicts.csv, where copies of the same bytes are rejected.
    """
    by_id = {image.id: image for image in images}
    copies = [
        Leak(Image(row["id"], row["name"], row["label"], row["split"], None), Kind.DUPLICATE, stays)
        for row in verdicts
        if row["reason"] == "duplicate" and row["split"]
        and (stays := by_id.get(row["id"])) and stays.split not in {None, row["split"]}
    ]  # fmt: skip
    return copies + [leak for group in found for leak in leaks.of_group(group, images)]


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
                    "change split.val and split.test, or try another split.seed"
                )


def gate(found: Sequence[Leak], chosen: Split, leaks_csv: Path) -> None:
    """Write down and tell what leaks.

    Raises:
        PipelineError: something does, and `split.leaks` is fail.
    """
    atomic.write_csv(leaks_csv, leaks.COLUMNS, [leak.line() for leak in found])
    if not found:
        return
    said = f"{len(found)} images are in one of the source's splits and in a later one too"
    if chosen.leaks == "fail":
        raise PipelineError(
            f"{said} ({leaks_csv}): mend the source, or leave them out with split.leaks=drop"
        )
    print(f"split: {said}; left out, see {leaks_csv}:")
    for leak in found[:NAMED]:
        print(f"  {leak.image.name} ({leak.kind.value} of {leak.stays.name})")


def read_before(split_csv: Path) -> dict[str, str]:
    """The split of each id in the last run, which DVC keeps in place for this (persist)."""
    try:
        rows = atomic.read_csv(split_csv)
        return {row["id"]: row["split"] for row in rows if row["split"] in SPLITS}
    except (FileNotFoundError, KeyError, UnicodeDecodeError, csv.Error):
        return {}


def report_moves(
    before: Mapping[str, str], images: Sequence[Image], splits: Sequence[str | None]
) -> None:
    """Tell which images are in another split than in the last run; the full list is in .cache."""
    moved = [
        (image.id, image.label, before[image.id], split or "left out")
        for image, split in zip(images, splits, strict=True)
        if before.get(image.id, split) != split
    ]
    path = project.cache() / "split" / "moves.csv"
    atomic.write_csv(path, MOVED, moved)
    if moved:
        ways = Counter(f"{was} to {now}" for *_, was, now in moved)
        told = ", ".join(f"{count} {way}" for way, count in sorted(ways.items()))
        print(f"split: {len(moved)} images moved since the last run ({told}); see {path}")


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
        name = "" if alone else places.leader(group, seed)
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
    gate(find_leaks(found, images, verdicts) if chosen.prescribed else [], chosen, leaks_csv)
    before = read_before(split_csv)
    rows = {row: before[image.id] for row, image in enumerate(images) if image.id in before}
    splits = assign(found, images, chosen, rows)
    check([image.label for image in images], splits)
    report_moves(before, images, splits)
    atomic.write_csv(split_csv, COLUMNS, lines(found, images, splits, chosen.seed))
    counts = Counter(splits)
    print("split: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS))


if __name__ == "__main__":
    stage.run(main)
