"""Masks of images among the images: COVID/masks beside COVID/images, a_mask.png beside a.png."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from pipeline.core.errors import PipelineError
from pipeline.datasets.path_pattern import PathPattern
from pipeline.stages.acquire.layouts.file_names import is_image_name, without_image_suffix
from pipeline.stages.acquire.layouts.folder_levels import find_pattern
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError, Reading
from pipeline.stages.acquire.layouts.name_labels import guess_pattern, is_no_class
from pipeline.stages.acquire.sources.class_folders import FolderLabel
from pipeline.stages.acquire.sources.listing import FileTable

WORD = r"(masks?|segmentations?|segmentation[ _-]masks?|ground[ _-]?truths?|gt|annotations?)"
FOLDER = re.compile(WORD, re.IGNORECASE)
NAME = re.compile(rf"(?P<stem>.+?)[ _.-]{WORD}([ _-]?\d+)?", re.IGNORECASE)
MIN_SHARE = 0.5  # of the names in two folders that they share; of the classes with such folders
MIN_NAMED = 0.1  # of the images, that have a mask beside them
# Of names of images, not of their masks.
FORMS = ("{label}/#", "{label}/* (#)", "{label}/*_#", "{label}/*-#", "{label}/*.#", "{label}/*#")


def check_masks(folders: Mapping[str, FolderLabel], files: FileTable, where: str) -> None:
    """Refuse images with their masks among them.

    Raises:
        AmbiguousLayoutError: classes have folders of masks, or of the same names as those of
            images; or names of files have `mask` after those of others.
        PipelineError: the class folders are images and masks.
    """
    stems = _stems(folders, files)
    _check_classes({label.label for label in folders.values()}, files, where)
    _check_inner(folders, stems, where)
    _check_names(folders, stems, files, where)


def _stems(folders: Mapping[str, FolderLabel], files: FileTable) -> dict[str, set[str]]:
    """Names of images without suffix, by class folder's path."""
    stems: dict[str, set[str]] = {folder: set() for folder in folders}
    for name in _images(files):
        folder, _, last = name.rpartition("/")
        if folder in stems:
            stems[folder].add(without_image_suffix(last))
    return stems


def _images(files: FileTable) -> Iterator[str]:
    return (name for name in files.paths() if is_image_name(name))


def _check_classes(classes: Collection[str], files: FileTable, where: str) -> None:
    """Refuse images/ beside masks/."""
    masks = sorted(name for name in classes if FOLDER.fullmatch(name))
    images = sorted(name for name in classes if name not in masks and is_no_class(name))
    if not (masks and images and len(masks) + len(images) == len(classes)):
        return
    problem = f"the folders {images[0]} and {masks[0]} are images and their masks, no classes"
    both = Reading("pattern", "{label}/*", "the two as classes")
    pattern = _guess_pattern(images[0], files, where)
    if pattern is None:
        raise PipelineError(
            f"{where}: {problem}: say where the classes are, with a table or with pattern in "
            f"dataset.toml, or with {both.toml()} that they are classes"
        )
    meaning = f"classes by what is in {images[0]}"
    raise AmbiguousLayoutError(where, problem, (Reading("pattern", pattern, meaning), both))


def _guess_pattern(folder: str, files: FileTable, where: str) -> str | None:
    """The pattern of the class folders in a folder, or of the names of its files.

    None if neither tells classes.
    """
    part = FileTable()
    inner: dict[str, None] = {}
    for file, path in zip(files, files.paths(), strict=True):
        _, middle, inside = f"/{path}".partition(f"/{folder}/")
        if middle and is_image_name(path):
            part.append(file)
            inner["/".join(inside.split("/")[:-1])] = None
    if "" not in inner and len({path.partition("/")[0] for path in inner}) > 1:
        return f"{folder}/{{label}}/{'**' if any('/' in path for path in inner) else '*'}"
    try:
        pattern = guess_pattern(part, {}, where)
    except AmbiguousLayoutError as error:
        return f"{folder}/{error.readings[0].value}"  # the classes with the longer names
    return f"{folder}/{pattern.text}" if pattern else None


def _check_inner(
    folders: Mapping[str, FolderLabel], stems: Mapping[str, set[str]], where: str
) -> None:
    """Refuse images/ beside masks/ in each class."""
    inner: dict[str, dict[str, set[str]]] = {}
    for folder, label in folders.items():
        if label.inside:
            inner.setdefault(label.label, {}).setdefault(label.inside[-1], set()).update(
                stems[folder]
            )
    pairs = Counter(pair for of_class in inner.values() for pair in _mask_folders(of_class))
    for (images, masks), count in pairs.items():
        if count > MIN_SHARE * len({label.label for label in folders.values()}):
            raise AmbiguousLayoutError(
                where,
                f"its classes have folders {images} and {masks} with files of the same names",
                (
                    Reading("pattern", _pattern_of(images, folders), f"{images} alone"),
                    Reading("pattern", find_pattern(folders), "images in both"),
                ),
            )


def _pattern_of(images: str, folders: Mapping[str, FolderLabel]) -> str:
    """The pattern of the images in one folder of each class."""
    if max(len(label.inside) for label in folders.values()) == 1:
        return f"{{label}}/{images}/*"
    return f"{find_pattern(folders)}/{images}/*"


def _mask_folders(inner: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The folders of images and of their masks in a class."""
    for images, names in inner.items():
        for other, others in inner.items():
            is_mask = FOLDER.fullmatch(other) and not FOLDER.fullmatch(images)
            if other == images or not (is_mask or is_no_class(images)):
                continue
            of_others = {_without_mask(name) for name in others}
            if len(names & of_others) > MIN_SHARE * max(len(names), len(of_others)):
                yield images, other


def _without_mask(stem: str) -> str:
    match = NAME.fullmatch(stem)
    return match["stem"] if match else stem


def _check_names(
    folders: Mapping[str, FolderLabel], stems: Mapping[str, set[str]], files: FileTable, where: str
) -> None:
    """Refuse a_mask.png beside a.png."""
    names = [
        f"{folder}/{stem}"
        for folder, others in stems.items()
        for stem in others
        if (match := NAME.fullmatch(stem)) and match["stem"] in others
    ]
    total = sum(map(len, stems.values()))
    if len(names) <= MIN_NAMED * (total - len(names)):
        return
    example = min(names)
    problem = f"names of its files, such as {example}, are those of others with an addition"
    pattern = _pattern_without(set(names), folders, files)
    if pattern is None:
        raise PipelineError(
            f"{where}: {problem}: take the masks out of the class folders, or write pattern = "
            f"'{find_pattern(folders)}' in dataset.toml if all are images"
        )
    raise AmbiguousLayoutError(
        where,
        problem,
        (
            Reading("pattern", pattern, "images without their masks"),
            Reading("pattern", find_pattern(folders), "all of them"),
        ),
    )


def _pattern_without(
    masks: set[str], folders: Mapping[str, FolderLabel], files: FileTable
) -> str | None:
    """A pattern that all images match, with the same labels, and no mask."""
    names = [name for name in _images(files) if name.rpartition("/")[0] in folders]
    suffixes = sorted({name.rpartition(".")[2] for name in names})
    for form in (*FORMS, *(f"{{label}}/*.{suffix}" for suffix in suffixes)):
        pattern = PathPattern(form)
        if all(_fits(pattern, name, masks, folders) for name in names):
            return form
    return None


def _fits(
    pattern: PathPattern, name: str, masks: set[str], folders: Mapping[str, FolderLabel]
) -> bool:
    match = pattern.match(name)
    if without_image_suffix(name) in masks:
        return match is None
    return match is not None and match["label"] == folders[name.rpartition("/")[0]].label
