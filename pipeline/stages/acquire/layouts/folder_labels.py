"""Labels by class folders, and copies of class folders among them, which are left out."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import ClassVar

from pipeline.core.columns import Column
from pipeline.stages.acquire.layouts.album_folders import describe_albums
from pipeline.stages.acquire.layouts.copied_folders import (
    Repeat,
    check_repeats,
    find_copies,
    find_repeats,
)
from pipeline.stages.acquire.layouts.file_names import is_image_name
from pipeline.stages.acquire.layouts.folder_levels import describe_nested, find_pattern
from pipeline.stages.acquire.layouts.labels import NO_FILES, FileFacts
from pipeline.stages.acquire.layouts.name_labels import is_no_class
from pipeline.stages.acquire.layouts.text_folders import (
    describe_text_folders,
    find_text_folders,
)
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import (
    FolderLabel,
    count_images,
    is_hidden,
    label_folders,
)
from pipeline.stages.acquire.sources.listing import FileTable


@dataclass(frozen=True)
class ClassFolderLabels:
    """Labels by class folders."""

    folders: Mapping[str, FolderLabel]
    """Folder -> label."""
    counts: Mapping[str, int]
    """Images by folder."""
    copies: frozenset[str] = frozenset()
    """Folders that are copies of others."""
    unlabelled: frozenset[str] = frozenset()
    """Folders of a split whose images have no labels: val/images beside train/cat."""
    other_notes: tuple[str, ...] = ()
    origin: str = "the folders of the files"
    missing: ClassVar[Column] = NO_FILES

    @property
    def notes(self) -> tuple[str, ...]:
        """What else people should know, a clause each."""
        return (*self.other_notes, *_describe_unlabelled(sorted(self.unlabelled)))

    @property
    def pattern(self) -> str:
        """The pattern that labels files in the same way."""
        return find_pattern(self.folders)

    def describe(self, splits: Mapping[str, str]) -> "ClassFolderLabels":
        """The same labels, with a note on classes that could be called after folders inside."""
        notes = (*describe_nested(self.folders, splits), *describe_albums(self.folders))
        return self.with_notes(*notes)

    def with_notes(self, *notes: str) -> "ClassFolderLabels":
        """The same labels, with more notes."""
        return replace(self, other_notes=(*self.other_notes, *notes))

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return {label.label for label in self.folders.values()}

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason]:
        """What is known of each file, in their order, or why it is left out."""
        facts: dict[str, FileFacts | SkipReason] = {
            folder: FileFacts(label.label, label.split) for folder, label in self.folders.items()
        }
        facts |= dict.fromkeys(self.copies, SkipReason.COPIED_FOLDER)
        facts |= dict.fromkeys(self.unlabelled, SkipReason.UNLABELLED)
        for name in files.paths():
            folder = name.rpartition("/")[0]
            if is_hidden(name) or folder not in facts:
                yield SkipReason.OUTSIDE_CLASS_FOLDERS
            else:
                yield facts[folder] if is_image_name(name) else SkipReason.OTHER_KIND


def read_folders(files: FileTable, splits: Mapping[str, str], where: str) -> ClassFolderLabels:
    """Label files by the class folders that they are in.

    Raises:
        PipelineError: there are none, or only some folders are named like splits.
        AmbiguousLayoutError: a folder repeats class folders, with files that those lack.
    """
    counts = count_images(files.paths())
    texts = find_text_folders(files, counts)
    for folder in texts:
        del counts[folder]
    repeats = find_repeats(counts)
    copies = find_copies(repeats, files)
    folders = label_folders(files.paths, splits, counts.keys() - copies).folders()
    check_repeats(repeats, copies, folders, counts, where)
    unlabelled = _find_unlabelled(folders)
    notes = (*_notes(repeats, copies, folders), *describe_text_folders(texts))
    folders = {name: label for name, label in folders.items() if name not in unlabelled}
    return ClassFolderLabels(folders, counts, frozenset(copies), frozenset(unlabelled), notes)


def _find_unlabelled(folders: Mapping[str, FolderLabel]) -> list[str]:
    """The folders right below val or test that are called `images`, if no class of train is."""
    trained = {label.label for label in folders.values() if label.split == "train"}
    if all(map(is_no_class, trained)):
        return []
    return sorted(
        folder
        for folder, label in folders.items()
        if label.split and not label.inside and is_no_class(label.label)
        if label.label not in trained
    )


def _describe_unlabelled(folders: Sequence[str]) -> tuple[str, ...]:
    """Say whose images have no labels."""
    if not folders:
        return ()
    verb = "has" if len(folders) == 1 else "have"
    names = ", ".join(folders)
    return (f"{names} {verb} images without class folders: they are left out as unlabelled",)


def _notes(
    repeats: Sequence[Repeat], copies: Collection[str], folders: Mapping[str, FolderLabel]
) -> tuple[str, ...]:
    """Say which folders are copies, and of what."""
    if not copies:
        return ()
    of_copies = [repeat for repeat in repeats if repeat.folder in copies]
    names = sorted({PurePosixPath(repeat.root).name for repeat in of_copies})
    labels = {folders[repeat.original].label for repeat in of_copies if repeat.original in folders}
    return (
        f"{', '.join(names)} has copies of the class folders {', '.join(sorted(labels))}, by the "
        "names and sizes of its files: they are left out",
    )
