"""Class folders that may be at another level: cat and dog, or alice and bob, in alice/cat/."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath

from pipeline.datasets.path_pattern import PathPattern
from pipeline.stages.acquire.layouts.album_names import is_album_name
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, Reading, sample
from pipeline.stages.acquire.layouts.name_labels import find_split_form
from pipeline.stages.acquire.sources.class_folders import FolderLabel
from pipeline.stages.acquire.sources.split_folders import find_split

MIN_SHARE = 0.1  # of the images in folders that have no others inside, to be classes beside those


def check_levels(
    folders: Mapping[str, FolderLabel],
    counts: Mapping[str, int],
    splits: Mapping[str, str],
    where: str,
) -> None:
    """Refuse class folders that have several folders, or the same ones, which may be the classes.

    A folder with images of its own is a class. One folder in each class says nothing, nor do
    folders that are named after splits, by what cameras write, or by numbers of their own.

    Args:
        counts: Images by folder.
        splits: Name of a split -> split.

    Raises:
        AmbiguousLayoutError: the classes may be the folders inside.
    """
    with_images = {label.label for label in folders.values() if not label.inside}
    nested = {f: label for f, label in folders.items() if label.label not in with_images}
    for level in range(max((len(label.inside) for label in nested.values()), default=0)):
        outer_of: dict[str, set[str]] = {}
        for label in nested.values():
            if len(label.inside) > level:
                outer = "/".join([label.label, *label.inside[:level]])
                outer_of.setdefault(label.inside[level], set()).add(outer)
        names = [name for name, outer in outer_of.items() if _may_be_class(name, outer, splits)]
        inside = Counter(outer for name in names for outer in outer_of[name])
        is_varied = max(inside.values(), default=0) > 1
        is_shared = any(len(outer_of[name]) > 1 for name in names)
        if len(names) > 1 and (is_varied or is_shared):
            raise _ambiguous(folders, counts, level, names, where)


def check_split_names(
    folders: Mapping[str, FolderLabel], splits: Mapping[str, str], where: str
) -> None:
    """Refuse class folders with names of splits in theirs: car_train beside car_test.

    Raises:
        AmbiguousLayoutError: the classes may be the rest of the names.
    """
    names = {label.label for label in folders.values()}
    form = find_split_form(names, splits)
    if form is None:
        return
    inner = PathPattern(f"{form}/*")
    matches = [inner.match(f"{name}/1") for name in names]
    classes = {match["label"] for match in matches if match}
    if len(classes) < len(names):
        raise AmbiguousLayoutError(
            where,
            "the names of its folders have splits in them",
            (
                Reading("pattern", inner.text, f"the classes {sample(classes)}"),
                Reading("pattern", find_pattern(folders), f"the classes {sample(names)}"),
            ),
        )


def describe_nested(
    folders: Mapping[str, FolderLabel], splits: Mapping[str, str]
) -> tuple[str, ...]:
    """Say which classes could also be called after the only folder inside: animals/cat."""
    inside: dict[str, set[str]] = {}
    for label in folders.values():
        inside.setdefault(label.label, set()).add(label.inside[-1] if label.inside else "")
    only = {outer: min(names) for outer, names in inside.items() if len(names) == 1}
    repeated = Counter(only.values())
    nested = [
        f"{outer}/{name}"
        for outer, name in sorted(only.items())
        if name and repeated[name] == 1 and _may_be_class(name, [outer], splits)
    ]
    if not nested:
        return ()
    return (f"classes are called after the outer folders of {', '.join(nested[:3])}",)


def find_pattern(folders: Mapping[str, FolderLabel]) -> str:
    """The pattern that labels files as their class folders do."""
    if not any(label.inside for label in folders.values()):
        return "{label}/*"
    return "/".join(["", *_above(folders), "{label}", "**"])


def _may_be_class(name: str, outer: Collection[str], splits: Mapping[str, str]) -> bool:
    if is_album_name(name) or find_split(name, splits):
        return False
    return len(outer) > 1 or any(character.isalpha() for character in name)


def _above(folders: Mapping[str, FolderLabel]) -> list[str]:
    """What a pattern has for the folders above the class folders."""
    paths = [
        PurePosixPath(folder).parts[: -1 - len(label.inside)] for folder, label in folders.items()
    ]
    return [
        names[0] if len(set(names)) == 1 and not set(names[0]) & set("*#{}") else "*"
        for names in zip(*paths, strict=True)
    ]


def _ambiguous(
    folders: Mapping[str, FolderLabel],
    counts: Mapping[str, int],
    level: int,
    names: Collection[str],
    where: str,
) -> AmbiguousLayoutError:
    classes = {label.label for label in folders.values()}
    flat = [folder for folder, label in folders.items() if len(label.inside) <= level]
    few = sum(counts[folder] for folder in flat) < MIN_SHARE * sum(counts[f] for f in folders)
    deepest = max(len(label.inside) for label in folders.values())
    if few and (flat or deepest > level + 1):
        inner = "/".join(["", *_above(folders), *["*"] * (level + 1), "{label}", "**"])
    else:
        inner = "{label}/*"
        names = {PurePosixPath(folder).name for folder in folders}
    return AmbiguousLayoutError(
        where,
        "its folders may be classes at two levels",
        (
            Reading("pattern", find_pattern(folders), f"the outer folders {sample(classes)}"),
            Reading("pattern", inner, f"the folders inside, {sample(names)}"),
        ),
    )
