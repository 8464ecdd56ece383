"""Stage split: who trains, who validates, who tests.

An image's place is a salted hash of its group (or of its id where it has none), so adding images
never moves one that was there. Shares therefore hold in expectation, per class.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline import atomic, params, shards, stage
from pipeline.deal import position
from pipeline.errors import PipelineError
from pipeline.params import Split

COLUMNS = ("id", "label", "split", "group")
SPLITS = ("train", "val", "test")


def assign(keys: Sequence[str], prescribed: Sequence[str | None], chosen: Split) -> list[str]:
    """The split of every image.

    Args:
        keys: What must not straddle splits: the image's group, or its id.
        prescribed: What the source says, or None. Splits that the source lacks are carved from
            its train set; images it says nothing of are dealt to all three.

    Returns:
        One of train, val, test per image.
    """
    given = set(prescribed) - {None}
    lacking = [name for name in ("test", "val") if name not in given]
    # An image that the source says nothing of goes with the others of its group.
    said_of_group: dict[str, str] = {}
    for key, own in zip(keys, prescribed, strict=True):
        if own is not None:
            said_of_group[key] = min(own, said_of_group.get(key, own), key=SPLITS.index)
    dealt = []
    for key, own in zip(keys, prescribed, strict=True):
        said = own or said_of_group.get(key)
        if said is None:
            dealt.append(_deal(position(key, chosen.seed), ["test", "val"], chosen))
        elif said == "train":
            dealt.append(_deal(position(key, chosen.seed), lacking, chosen))
        else:
            dealt.append(said)
    return dealt


def _deal(place: float, names: Sequence[str], chosen: Split) -> str:
    edge = 0.0
    for name in names:
        edge += chosen.test if name == "test" else chosen.val
        if place < edge:
            return name
    return "train"


def check(labels: Sequence[str], splits: Sequence[str]) -> None:
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


def main(clean: Path, split_csv: Path) -> None:
    """Deal the images of CLEAN to train, val and test, and write SPLIT_CSV."""
    table = shards.columns(clean, ["id", "label", "split", "group"])
    ids, labels, prescribed, groups = (column.to_pylist() for column in table.columns)
    keys = [group or key for key, group in zip(ids, groups, strict=True)]
    splits = assign(keys, prescribed, params.load().split)
    check(labels, splits)
    rows = sorted(zip(ids, labels, splits, groups, strict=True))
    atomic.write_csv(split_csv, COLUMNS, [(*row[:3], row[3] or "") for row in rows])
    counts = Counter(splits)
    print("split: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS))


if __name__ == "__main__":
    stage.run(main)
