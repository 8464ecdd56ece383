"""The classes that an image may be of, as far as a model promises."""

from dataclasses import dataclass

from pipeline.core.percentages import format_level

NONE_OF_THESE = "none of these"
MAX_NAMES = 5  # in a text


@dataclass(frozen=True)
class CandidateClasses:
    """A set of classes that has the true one with a stated probability."""

    labels: tuple[str, ...]
    """The most likely first; empty if the image is far from the training images of all classes."""
    coverage: float
    """In 0..1: of new images of the classes, so many have their class in the set."""

    @property
    def is_none_of_these(self) -> bool:
        """Whether the image is far from the training images of all classes."""
        return not self.labels

    @property
    def label(self) -> str | None:
        """The class, if there is a single one."""
        return self.labels[0] if len(self.labels) == 1 else None

    def describe(self) -> str:
        """Such as "one of {daisy, dandelion} at 95 %"."""
        if self.is_none_of_these:
            return NONE_OF_THESE
        level = format_level(self.coverage)
        if self.label is not None:
            return f"{self.label} at {level}"
        names, more = self.labels[:MAX_NAMES], len(self.labels) - MAX_NAMES
        rest = f", and {more} more" if more > 0 else ""
        return f"one of {{{', '.join(names)}{rest}}} at {level}"
