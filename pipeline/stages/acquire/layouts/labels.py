"""What a layout says of each file of a folder or archive."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from pipeline.core.columns import Column, texts
from pipeline.core.errors import PipelineError
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.listing import FileTable


@dataclass(frozen=True, slots=True)
class FileFacts:
    label: str
    split: str | None = None
    """train, val or test where the source prescribes it."""
    group: str | None = None
    owner: str | None = None
    licence: str | None = None
    sha256: str | None = None


class FileLabels(Protocol):
    """The labels of the files of one listing."""

    @property
    def origin(self) -> str:
        """Where the labels come from, for people."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What else people should know, a clause each."""

    @property
    def missing(self) -> Column:
        """Files that have a label, but are not there."""

    def classes(self) -> set[str]:
        """All labels, as the source spells them."""

    def facts(self, files: FileTable) -> Iterator[FileFacts | SkipReason | None]:
        """What is known of each file, in their order, or why it is left out.

        None stands for a file that has labels of others.
        """


NO_FILES = texts([])


class UnusableTableError(PipelineError):
    """A table that has no labels of the files there; others may have them."""


class UnclearColumnError(UnusableTableError):
    """A table that names files, but has several columns that may have the labels."""


class RepeatedNamesError(PipelineError):
    """A table that names only files whose names several have.

    Attributes:
        classes: The labels in it.
    """

    def __init__(self, message: str, classes: frozenset[str]) -> None:
        super().__init__(message)
        self.classes = classes


class UnclearLayoutError(PipelineError):
    """A source of which somebody has to say where the labels are."""


class AmbiguousLayoutError(UnclearLayoutError):
    """A source whose labels can be read in two ways.

    Attributes:
        readings: Key of dataset.toml, its value, and what it means, of each way.
    """

    def __init__(self, where: str, problem: str, readings: "tuple[Reading, Reading]") -> None:
        first, second = readings
        super().__init__(
            f"{where}: {problem}: {first.meaning}, or {second.meaning}? Write "
            f"{first.toml()} or {second.toml()} in dataset.toml"
        )
        self.where = where
        self.problem = problem
        self.readings = readings


class DoubtfulClassesError(UnclearLayoutError):
    """A source whose labels may be no classes.

    Attributes:
        reading: Key of dataset.toml and its value that say that they are.
        advice: What to do if they are not.
    """

    def __init__(self, where: str, problem: str, reading: "Reading", advice: str) -> None:
        super().__init__(
            f"{where}: {problem}, which may be no classes: {advice}; or, if they are the classes, "
            f"write {reading.toml()} in dataset.toml"
        )
        self.where = where
        self.problem = problem
        self.reading = reading
        self.advice = advice


@dataclass(frozen=True)
class Reading:
    """One of the ways to read the labels of a source."""

    key: str
    """Of dataset.toml."""
    value: str
    meaning: str

    def toml(self) -> str:
        """The line of dataset.toml that decides for it."""
        quote = "'" if "'" not in self.value else '"'
        return f"{self.key} = {quote}{self.value}{quote}"


def have_numbers_only(labels: Iterable[str]) -> bool:
    """Whether all labels are numbers."""
    return all(re.fullmatch(r"-?[0-9.]*", label) for label in labels)


def sample(names: Iterable[str]) -> str:
    """The first names, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:3] + ["..."] * (len(ordered) > 3))
