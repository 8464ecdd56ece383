"""Labels in the names of files: cat.1.jpg, dog_017.png."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import PurePosixPath

from pipeline.core.columns import Column
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.class_names import to_nfc
from pipeline.stages.acquire.layouts.file_names import is_image_name, without_image_suffix
from pipeline.stages.acquire.layouts.labels import (
    NO_FILES,
    AmbiguousLayoutError,
    FileFacts,
    Reading,
    sample,
)
from pipeline.stages.acquire.layouts.path_pattern import SEPARATORS, PathPattern
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable

MIN_MATCHED = 0.95  # share of the names that a pattern must match to be tried by itself
# In the order of preference; `{label}#` matches names of several separators.
NUMBERED = ("{label}.#", "{label}_#", "{label}-#", "{label} (#)", "{label} #", "{label}#")
GUESSES = (*NUMBERED, "#_{label}", "#-{label}", "#.{label}", "# {label}")
# What cameras, phones and people call any photograph.
NO_CLASS = frozenset(
    {
        "burst",
        "bild",
        "capture",
        "dcim",
        "dsc",
        "dscf",
        "dscn",
        "dscpdc",
        "export",
        "file",
        "foto",
        "frame",
        "gopr",
        "image",
        "images",
        "img",
        "imgp",
        "mvimg",
        "p",
        "pano",
        "photo",
        "photos",
        "pic",
        "picture",
        "pict",
        "pxl",
        "sam",
        "scan",
        "screenshot",
        "vid",
        "whatsapp",
    }
)


class NameLabels:
    """Labels by a pattern."""

    notes: tuple[str, ...] = ()
    missing: Column = NO_FILES

    def __init__(self, pattern: PathPattern, splits: Mapping[str, str]) -> None:
        """Read nothing yet.

        Args:
            splits: Text in the place of {split}, or a folder above the file -> split.
        """
        self._pattern = pattern
        self.pattern = pattern.text
        self._splits = {to_nfc(text).lower(): split for text, split in splits.items()}
        self._classes: set[str] = set()
        self.origin = f"the paths of the files, by the pattern {pattern.text}"

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""
        return self._classes

    def find_classes(self, files: FileTable) -> "NameLabels":
        """Read the labels of all files."""
        self._classes = {
            facts.label for facts in self.facts(files) if not isinstance(facts, SkipReason)
        }
        return self

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason]:
        """What is known of each file, in their order, or why it is left out."""
        return map(self._facts_of, files.paths())

    def _facts_of(self, name: str) -> FileFacts | SkipReason:
        match = None if is_hidden(name) else self._pattern.match(name)
        label = match["label"].strip(SEPARATORS) if match else ""
        if not label or not is_image_name(name):
            return SkipReason.UNLABELLED
        assert match is not None
        parts = match.groupdict()
        if "split" in parts:
            split = self._splits.get(to_nfc(parts["split"]).lower())
        else:
            folders = [to_nfc(part).lower() for part in PurePosixPath(name).parts[:-1]]
            split = next((self._splits[part] for part in folders if part in self._splits), None)
        return FileFacts(label, split, parts.get("group"))


def read_names(
    pattern: PathPattern, files: FileTable, splits: Mapping[str, str], where: object
) -> NameLabels:
    """Label the files by a pattern that a person gave.

    Raises:
        PipelineError: it matches no file.
    """
    labels = NameLabels(pattern, splits).find_classes(files)
    if not labels.classes():
        names = [name for name in files.paths() if is_image_name(name) and not is_hidden(name)]
        raise PipelineError(
            f"{where}: the pattern {pattern.text} matches no file: there are "
            f"{', '.join(sorted(names)[:3]) or 'no images'}"
        )
    return labels


def guess_pattern(files: FileTable, where: str) -> PathPattern | None:
    """The pattern that the names of almost all images follow; None if there is none.

    Names without a letter count only in folders with others: test sets are often numbered.

    Raises:
        AmbiguousLayoutError: the text before the number has two parts, either of which may be the
            class.
    """
    fits = [_Fit(PathPattern(text)) for text in GUESSES]
    for name in _image_stems(files):
        folder, _, stem = name.rpartition("/")
        if stem.isdecimal():
            stem = ""  # no pattern has a label in it
        for fit in fits:
            fit.add(folder, stem)
    for fit in fits:
        if fit.is_good():
            _check_ambiguous(fit.pattern, fit.counts, files, where)
            return fit.pattern
    return None


class _Fit:
    """How well a pattern fits the names of files."""

    def __init__(self, pattern: PathPattern) -> None:
        self.pattern = pattern
        self.counts: Counter[str] = Counter()
        """Files by label."""
        self._folders: set[str] = set()
        self._others: Counter[str] = Counter()
        """By folder: files without a label."""
        self._named: set[str] = set()
        """Folders with files that have letters, but no label."""

    def add(self, folder: str, stem: str) -> None:
        """Add a file, by its name without suffix."""
        label = self.pattern.find_label(stem) if stem else None
        if label is not None:
            self.counts[label] += 1
            self._folders.add(folder)
            return
        self._others[folder] += 1
        if any(character.isalpha() for character in stem):
            self._named.add(folder)

    def is_good(self) -> bool:
        """Whether it fits nearly all names, and tells classes."""
        others = sum(count for folder, count in self._others.items() if folder in self._folders)
        total = self.counts.total() + others
        return (
            total > 0
            and self.counts.total() >= MIN_MATCHED * total
            and 2 <= len(self.counts) <= max(2, total // 2)
            and not all(_is_no_class(label) for label in self.counts)
            and not self._named - self._folders
        )


def _image_stems(files: FileTable) -> Iterator[str]:
    """Paths of images without their suffixes."""
    for name in files.paths():
        if is_image_name(name) and not is_hidden(name):
            yield without_image_suffix(name)


def _is_no_class(label: str) -> bool:
    return re.split(r"[\W\d_]", label.lower())[0] in NO_CLASS


def _check_ambiguous(
    pattern: PathPattern, counts: Counter[str], files: FileTable, where: str
) -> None:
    for separator in "_-. ":
        shorter = {label.partition(separator)[0] for label in counts}
        if 2 <= len(shorter) < len(counts):
            other = PathPattern(pattern.text.replace("{label}", f"{{label}}{separator}*"))
            raise AmbiguousLayoutError(
                where,
                f"the names of its files have two parts that may be the class (such as "
                f"{next(islice(files.paths(), 1))})",
                (
                    Reading("pattern", pattern.text, f"{len(counts)} classes ({sample(counts)})"),
                    Reading("pattern", other.text, f"{len(shorter)} classes ({sample(shorter)})"),
                ),
            )
