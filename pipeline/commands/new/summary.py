"""Say what was understood of a source."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.commands.new.advice import to_options
from pipeline.core.errors import format_counts
from pipeline.core.plurals import plural
from pipeline.core.shards import SPLITS
from pipeline.core.skipped_csv import MEANING
from pipeline.core.terminal import print_line, print_table
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts.labels import have_numbers_only
from pipeline.stages.acquire.sources.contents import Contents

MAX_CLASSES = 20
MAX_NAMES = 10


def print_contents(contents: Contents, renamed: Mapping[str, str]) -> None:
    """Print classes with their counts and splits, where the labels come from, and some names.

    Args:
        renamed: Name of a class in the source -> class.
    """
    print_counts(contents.count(), renamed)
    print_line(f"labels: from {contents.origin}")
    for note in contents.notes:
        print_line(f"note: {to_options(note)}")
    if number := _find_number({to_nfc(name) for name in contents.classes()} - renamed.keys()):
        print_line(f"note: classes are numbers: --rename {number}=NAME gives one a name")
    for name in sample_names(contents.labelled_names()):
        print_line(f"  {name}")
    _print_left_out(contents)


def _find_number(classes: set[str]) -> str | None:
    """The first of classes that are all numbers; None if any is not."""
    return min(classes) if classes and have_numbers_only(classes) else None


def sample_names(names: Iterable[tuple[str, tuple[str, str | None]]]) -> list[str]:
    """Some names of images, of as many classes and splits as they can be.

    Args:
        names: Each with its label and split.
    """
    groups: dict[tuple[str, str | None], list[str]] = {}
    for name, key in names:
        group = groups.setdefault(key, [])
        if len(group) < MAX_NAMES:
            group.append(name)
    used: Counter[str | None] = Counter()
    result: list[str] = []
    while len(result) < MAX_NAMES and groups:
        label, split = min(groups, key=lambda key: used[f"class {key[0]}"] + used[key[1]])
        used.update([f"class {label}", split])
        result.append(groups[label, split].pop(0))
        if not groups[label, split]:
            del groups[label, split]
    return result


def _print_left_out(contents: Contents) -> None:
    """Print the counts by reason, and some names of each reason."""
    reasons: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    for item in contents.left_out():
        reasons[item.reason.value] += 1
        if reasons[item.reason.value] <= MAX_NAMES:
            names.setdefault(item.reason.value, []).append(item.name)
    if reasons:
        print_line(f"left out: {format_counts(reasons)}")
    for reason, some in names.items():
        examples = some[: max(1, MAX_NAMES // len(names))]
        for name in examples:
            print_line(f"  {name}: {MEANING[reason]}")
        if rest := reasons[reason] - len(examples):
            print_line(f"  and {rest} more")


def print_counts(counts: Counter[tuple[str, str | None]], renamed: Mapping[str, str]) -> None:
    """Print the images of each class and split; two Unicode forms of a name are one class."""
    classes_of = {to_nfc(name): to_nfc(label) for name, label in renamed.items()}
    by_form, counts = counts, Counter()
    for (label, split), count in by_form.items():
        counts[classes_of.get(to_nfc(label), to_nfc(label)), split] += count
    by_class: Counter[str] = Counter()
    for (label, _), count in counts.items():
        by_class[label] += count
    classes = plural(len(by_class), "class", "classes")
    print_line(f"{plural(counts.total(), 'image')} of {classes}")
    splits = [split for split in SPLITS if any(key == split for _, key in counts)]
    without = [None] if splits and any(key is None for _, key in counts) else []
    rows = [
        [label, str(count), *(str(counts[label, split]) for split in [*splits, *without])]
        for label, count in sorted(by_class.items())[:MAX_CLASSES]
    ]
    header = ["class", "images", *splits, *(["no split"] if without else [])]
    print_table(header, rows, numbers=True)
    if len(by_class) > MAX_CLASSES:
        print_line(f"and {plural(len(by_class) - MAX_CLASSES, 'more class', 'more classes')}")
    if not splits:
        print_line("splits: none; split assigns them")
