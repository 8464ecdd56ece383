"""Folders that cameras, phones and calendars name: 100APPLE, Camera Roll, 2023-01-05."""

from collections.abc import Iterable, Mapping

from pipeline.stages.acquire.layouts.album_names import is_album_name
from pipeline.stages.acquire.layouts.folder_levels import find_pattern
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    DoubtfulClassesError,
    Reading,
    sample,
)
from pipeline.stages.acquire.sources.class_folders import FolderLabel

PROBLEM = "its folders are called as cameras, phones and calendars call them"


def are_albums(names: Iterable[str]) -> bool:
    """Whether all names are those of such folders."""
    return all(map(is_album_name, names))


def check_albums(folders: Mapping[str, FolderLabel], where: str) -> None:
    """Refuse class folders that all have such names, until somebody says that they are classes.

    Raises:
        DoubtfulClassesError: they have.
        AmbiguousLayoutError: they have, and the folders inside may be classes: 2023-01-05/cat.
    """
    classes = {label.label for label in folders.values()}
    if not are_albums(classes):
        return
    reading = Reading("pattern", find_pattern(folders), f"the folders {sample(classes)}")
    inside = {label.inside[-1] for label in folders.values() if label.inside}
    is_nested = all(label.inside for label in folders.values())
    if is_nested and len(inside) > 1 and all(map(_may_be_class, inside)):
        inner = Reading("pattern", "{label}/*", f"the folders inside, {sample(inside)}")
        raise AmbiguousLayoutError(where, PROBLEM, (inner, reading))
    raise DoubtfulClassesError(
        where,
        f"{PROBLEM} ({sample(classes)})",
        reading,
        "sort the photographs into a folder for each class, or give a table with their classes",
    )


def _may_be_class(name: str) -> bool:
    return not is_album_name(name) and any(character.isalpha() for character in name)


def describe_albums(folders: Mapping[str, FolderLabel]) -> tuple[str, ...]:
    """Say which class folders have such names, beside others."""
    names = sorted({label.label for label in folders.values() if is_album_name(label.label)})
    if not names:
        return ()
    return (f"{', '.join(names[:3])} may be no class by its name, but counts as one",)
