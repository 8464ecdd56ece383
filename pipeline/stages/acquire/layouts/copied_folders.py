"""Folders that are copies of others, such as `cleaned/Cat` or `Cat - Copy` beside `Cat`."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import columns
from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, Reading
from pipeline.stages.acquire.sources.class_folders import FolderLabel, is_hidden
from pipeline.stages.acquire.sources.listing import FileTable, RowTable

# What file managers call a copy of x: "x - Copy", "x copy 2", "Copy of x", "x (1)".
COPY = r"copy|kopie|kopia|copie|copia|cópia|복사본|コピー|副本"
COPY_NAMES = (
    re.compile(rf"(?P<name>.+?)[ _-]+\(?({COPY})\)?[ _-]*(\(?\d+\)?)?"),
    re.compile(rf"({COPY}) (of|von|de|di) (?P<name>.+)"),
)
NUMBERED_NAME = re.compile(r"(?P<name>.+?) ?\(\d+\)")
KEYS = pa.schema({"key": pa.string(), "folder": pa.string()})


@dataclass(frozen=True)
class Repeat:
    """A folder whose place or name is that of a copy."""

    folder: str
    original: str
    root: str
    """The folder at which the paths of the two begin to differ."""
    is_named_copy: bool
    """Whether a name in its path says that it is a copy."""


def find_repeats(folders: Collection[str]) -> list[Repeat]:
    """The folders that repeat others, by their paths: x/Cat and `Cat - Copy` repeat Cat.

    Args:
        folders: Those with images.
    """
    spelling = {path_key(folder): folder for folder in sorted(folders, reverse=True)}
    repeats = []
    for folder in sorted(folders):
        parts = PurePosixPath(folder).parts
        for level, other, is_named_copy in _originals(path_key(folder).split("/")):
            original = spelling.get("/".join(other))
            if original is not None:
                root = "/".join(parts[: level + 1])
                repeats.append(Repeat(folder, original, root, is_named_copy))
                break
    return repeats


def find_copies(repeats: Collection[Repeat], files: FileTable) -> set[str]:
    """The folders of which the original has each image, by name and size."""
    if not repeats:
        return set()
    original_of = {repeat.folder: repeat.original for repeat in repeats}
    originals = set(original_of.values())
    there, repeated = RowTable(KEYS), RowTable(KEYS)
    for path, size in zip(files.paths(), columns.iterate(files.column("size")), strict=True):
        folder, _, name = path.rpartition("/")
        if is_hidden(path) or not is_image_name(path):
            continue
        if folder in originals:
            there.append(f"{folder}/{to_nfc(name)}/{size}", folder)
        if folder in original_of:
            repeated.append(f"{original_of[folder]}/{to_nfc(name)}/{size}", folder)
    rows = repeated.table()
    is_there = pc.is_in(rows.column("key"), value_set=there.table().column("key"))
    others = rows.column("folder").filter(pc.invert(is_there)).unique().to_pylist()
    return original_of.keys() - set(others)


def check_repeats(
    repeats: Collection[Repeat],
    copies: Collection[str],
    labels: Mapping[str, FolderLabel],
    counts: Mapping[str, int],
    where: str,
) -> None:
    """Refuse folders that repeat classes, but are no copies of them, or only in part.

    A folder with more images of its own is a class: dog may have a folder dog/cat.

    Args:
        labels: Of the folders that are no copies.
        counts: Images by folder.

    Raises:
        AmbiguousLayoutError: they may be classes or not.
        PipelineError: a folder is called a copy of another, and has other images.
    """
    roots: dict[str, _Root] = {}
    for repeat in repeats:
        roots.setdefault(repeat.root, _Root()).repeats.append(repeat)
    for folder, count in counts.items():
        for root in roots.keys() & _with_parents(folder):
            if folder in copies:
                roots[root].copied += count
            else:
                roots[root].others[folder] = count
    for name, tree in roots.items():
        originals = {labels[x.original].label for x in tree.repeats if x.original in labels}
        other = min((x for x in tree.others if x in labels), default=None)
        if other is None or not originals or labels[other].label in originals:
            continue
        if tree.repeats[0].is_named_copy:
            raise _other_files(tree.repeats[0])
        if name not in tree.others or sum(tree.others.values()) < tree.copied:
            raise _ambiguous(other, labels[other], originals, where)


def path_key(path: str) -> str:
    """The same for all spellings of a path in case and Unicode form."""
    return "/".join(PurePosixPath(to_nfc(path).lower()).parts)


def _originals(parts: Sequence[str]) -> Iterator[tuple[int, list[str], bool]]:
    """The folders of which one may be a copy.

    Yields:
        The level at which the copy begins, the path of the original, and whether it is by a name.
    """
    for count in range(1, len(parts)):
        for start in reversed(range(len(parts) - count + 1)):
            end = start + count
            is_same_name = start > 0 and parts[end - 1] == parts[start - 1]  # Cat/Cat
            if end < len(parts) or is_same_name:
                yield start, [*parts[:start], *parts[end:]], False
    for level, part in enumerate(parts):
        for name in COPY_NAMES:
            if match := name.fullmatch(part):
                yield level, [*parts[:level], match["name"], *parts[level + 1 :]], True
        if match := NUMBERED_NAME.fullmatch(part):
            yield level, [*parts[:level], match["name"], *parts[level + 1 :]], False


@dataclass
class _Root:
    """What is in a folder of which some parts repeat others."""

    repeats: list[Repeat] = field(default_factory=list)
    copied: int = 0
    """Images in copies."""
    others: dict[str, int] = field(default_factory=dict)
    """Images in each folder that is no copy."""


def _with_parents(folder: str) -> set[str]:
    parts = PurePosixPath(folder).parts
    return {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}


def _other_files(repeat: Repeat) -> PipelineError:
    name, original = (PurePosixPath(x).name for x in (repeat.root, repeat.original))
    return PipelineError(
        f"{name} is called a copy of {original}, but has other images: move its images to "
        f"{original}, or, if it is a class of its own, write pattern = '{{label}}/*' in "
        "dataset.toml"
    )


def _ambiguous(
    folder: str, label: FolderLabel, originals: Collection[str], where: str
) -> AmbiguousLayoutError:
    """Say that the folder of a label may be one of other classes, by one of its subfolders."""
    parts = PurePosixPath(folder).parts
    root = len(parts) - len(label.inside) - 1
    above = [*parts[: root - 1], "{split}"] if label.split and root else parts[:root]
    keys = {path_key(name) for name in originals}
    depth = next((x for x, part in enumerate(label.inside) if path_key(part) in keys), 0)
    outer = "/".join(["", *above, "{label}", "*"])
    alone = "/".join([*parts[root : root + 1 + depth], "{label}", "*"])
    inner = (
        Reading("pattern", alone, f"{label.label} alone")
        if len(originals) > 1
        else Reading("pattern", "{label}/*", "with its images in the classes of the same names")
    )
    return AmbiguousLayoutError(
        where,
        f"{label.label} beside the class folders has folders of the same names, with other files",
        (Reading("pattern", outer, f"without {label.label}"), inner),
    )
