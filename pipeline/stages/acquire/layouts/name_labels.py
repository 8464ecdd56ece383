"""Labels in the names of files: cat.1.jpg, dog_017.png."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from pipeline.core.columns import Column
from pipeline.core.errors import PipelineError
from pipeline.core.unicode import to_nfc
from pipeline.datasets.path_pattern import SEPARATORS, PathPattern
from pipeline.stages.acquire.layouts.file_names import is_image_name, without_image_suffix
from pipeline.stages.acquire.layouts.labels import (
    NO_FILES,
    AmbiguousLayoutError,
    FileFacts,
    Reading,
    sample,
)
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.class_folders import is_hidden
from pipeline.stages.acquire.sources.listing import FileTable
from pipeline.stages.acquire.sources.split_folders import find_split, format_splits

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
        """What is known of each file, in their order, or why it is left out.

        Raises:
            PipelineError: a text in the place of {split} is no split.
        """
        return map(self._facts_of, files.paths())

    def _facts_of(self, name: str) -> FileFacts | SkipReason:
        match = None if is_hidden(name) else self._pattern.match(name)
        label = match["label"].strip(SEPARATORS) if match else ""
        if not is_image_name(name):
            return SkipReason.OTHER_KIND
        if not label:
            return SkipReason.UNLABELLED
        assert match is not None
        parts = match.groupdict()
        if "split" in parts:
            return FileFacts(label, self._split_of(parts["split"], name), parts.get("group"))
        others = match.string[: match.start("label")] + match.string[match.end("label") :]
        splits = (find_split(folder, self._splits) for folder in others.split("/")[:-1])
        return FileFacts(label, next(filter(None, splits), None), parts.get("group"))

    def _split_of(self, text: str, name: str) -> str:
        split = find_split(text, self._splits)
        if split is None:
            raise PipelineError(
                f"{text!r}, in the place of {{split}} of {self.pattern} in {name}, is no split: "
                f"say which, such as {format_splits([text], self._splits)} in dataset.toml"
            )
        return split


def read_names(
    pattern: PathPattern, files: FileTable, splits: Mapping[str, str], where: object
) -> NameLabels:
    """Label the files by a pattern that a person gave.

    Raises:
        PipelineError: it matches no file, or a text in the place of {split} is no split.
    """
    labels = NameLabels(pattern, splits).find_classes(files)
    if not labels.classes():
        names = [name for name in files.paths() if is_image_name(name) and not is_hidden(name)]
        raise PipelineError(
            f"{where}: the pattern {pattern.text} matches no file: there are "
            f"{', '.join(sorted(names)[:3]) or 'no images'}"
        )
    return labels


def guess_pattern(files: FileTable, splits: Mapping[str, str], where: str) -> PathPattern | None:
    """The pattern that the names of almost all images follow; None if there is none.

    Names without a letter count only in folders with others: test sets are often numbered.

    Args:
        splits: Name of a split -> split.

    Raises:
        PipelineError: the names tell splits alone.
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
            if pattern := _find_splits(fit.pattern, fit.counts, splits, where):
                return pattern
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
            and not all(is_no_class(label) for label in self.counts)
            and not self._named - self._folders
        )


def _image_stems(files: FileTable) -> Iterator[str]:
    """Paths of images without their suffixes."""
    for name in files.paths():
        if is_image_name(name) and not is_hidden(name):
            yield without_image_suffix(name)


def is_no_class(label: str) -> bool:
    """Whether a text is what cameras, phones and people call any photograph."""
    return re.split(r"[\W\d_]", label.lower())[0] in NO_CLASS


def _find_splits(
    pattern: PathPattern, counts: Counter[str], splits: Mapping[str, str], where: str
) -> PathPattern | None:
    """The pattern of names such as train_cat_1.jpg; None where they tell no splits.

    Raises:
        PipelineError: they tell splits, but no classes.
    """
    splits = {to_nfc(text).lower(): split for text, split in splits.items()}
    if all(find_split(label, splits) for label in counts):
        raise PipelineError(
            f"{where}: the names of its files tell splits ({sample(counts)}), but no classes: say "
            "with pattern or a table where the classes are"
        )
    form = find_split_form(counts, splits)
    return PathPattern(pattern.text.replace("{label}", form)) if form else None


def find_split_form(labels: Collection[str], splits: Mapping[str, str]) -> str | None:
    """The pattern of texts that have a class and one of several splits, such as {label}_{split}."""
    for separator in "_-. ":
        pairs = [label.split(separator, 1) for label in labels]
        for position, parts in enumerate(("{split}%s{label}", "{label}%s{split}")):
            named = {find_split(pair[position], splits) if pair[1:] else None for pair in pairs}
            if None not in named and len(named) > 1:
                return parts % separator
    return None


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
