"""Class names: one spelling of each, and only the classes that dataset.toml lists."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import SHAPELESS, print_line
from pipeline.core.unicode import to_nfc
from pipeline.params import AS_DESCRIBED
from pipeline.stages.acquire.raw_image import RawImage, SkippedItem

MAX_LISTED = 5  # names in a message
# Variation selectors and tags, which have no shape of their own and are not of the category Cf.
SELECTORS = {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)}
SEVERAL = re.compile(r"[|;,]")  # between several labels of an image


@dataclass(frozen=True)
class ClassNames:
    """What dataset.toml decides about the names of classes."""

    toml: str = "dataset.toml"
    """Its path, for messages."""
    source: str = AS_DESCRIBED
    """The value of `dataset.source`."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Name in the source -> class, both in NFC."""
    classes: frozenset[str] = frozenset()
    """The classes of the data set, in NFC; empty where dataset.toml does not list them."""
    least: int = 1
    """The smallest number of classes that is of use."""

    def settle(self, labels: Iterable[str], where: object, origin: str = "") -> dict[str, str]:
        """Return the class of every label of a source, before its images are read.

        Args:
            where: The source, for messages.
            origin: Where its labels come from, for messages.

        Raises:
            PipelineError: two labels look alike and dataset.toml does not decide, one is several
                classes, they are not the classes of dataset.toml, it renames another by mistake,
                one is markup, or there are too few.
        """
        names = {label: to_nfc(label) for label in labels}
        spellings: dict[str, set[str]] = defaultdict(set)
        for label, name in names.items():
            spellings[name].add(label)
        for name, forms in sorted(spellings.items()):
            if len(forms) > 1:
                print_line(f"acquire: {name} is written in {len(forms)} Unicode forms: one class")
        settled = {label: self.renamed.get(name, name) for label, name in names.items()}
        self._check_renamed(set(names.values()), set(settled.values()), where)
        _check_markup(set(settled.values()), where)
        self._check_distinct(set(settled.values()), where)
        self._check_single(set(settled.values()), where)
        self._check_listed(set(settled.values()), where)
        self._check_several(set(settled.values()), where, origin)
        return settled

    def of_pin(self) -> "ClassNames":
        """The same for labels that were renamed already."""
        return replace(self, renamed={name: name for name in self.renamed.values()})

    def check_images(
        self, items: Iterable[RawImage | SkippedItem], where: object
    ) -> Iterator[RawImage | SkippedItem]:
        """Yield `items`, then check that their classes are those of dataset.toml.

        Raises:
            PipelineError: they are not, also because no image of a class could be fetched.
        """
        labels = set()
        for item in items:
            if isinstance(item, RawImage):
                labels.add(item.label)
            yield item
        self._check_listed(labels, where)

    def _check_renamed(self, names: set[str], classes: set[str], where: object) -> None:
        """Refuse a renamed class that is not there if it is a mistake; mention it elsewhere.

        It is one where a class of nearly the same name is, or where no image gets the new name;
        but a copy of a data set may have other names.
        """
        unused = {
            name: new
            for name, new in self.renamed.items()
            if name not in names and name != new  # a name that stays is a decision
        }
        others = sorted(names - self.renamed.keys() - set(self.renamed.values()) - self.classes)
        for name, new in sorted(unused.items()):
            close = difflib.get_close_matches(name, others, n=1)
            if close or (new not in classes and self.source == AS_DESCRIBED):
                hint = f"did you mean {quote(close[0])}? " if close else ""
                raise PipelineError(
                    f"{where} has no class {quote(name)}, which {self.toml} renames under "
                    f"[labels]: {hint}it has {_listing(sorted(names))}"
                )
        if unused:
            print_line(
                f"acquire: [labels] of {self.toml} renames {_listing(sorted(unused))}: no class "
                "has that name"
            )

    def _check_distinct(self, names: set[str], where: object) -> None:
        if lossy := sorted(name for name in names if "\N{REPLACEMENT CHARACTER}" in name):
            raise PipelineError(
                f"{where} has a class whose name is not UTF-8, {quote(lossy[0])}: rename its folder"
            )
        decided = self.classes | set(self.renamed.values())
        alike: dict[str, list[str]] = defaultdict(list)
        for name in sorted(names):
            alike[_skeleton(name)].append(name)
        for skeleton, group in sorted(alike.items()):
            if not skeleton:
                raise PipelineError(
                    f"{where} has a class whose name prints as nothing, {quote(group[0])}: rename "
                    "its folder or label"
                )
            if len(group) > 1 and not decided.issuperset(group):
                first, second = (quote(name) for name in group[:2])
                raise PipelineError(
                    f"{where} has two classes that differ only in {_difference(*group[:2])}, "
                    f"{first} and {second}: rename one of them, or decide in {self.toml}, by "
                    f"labels = {{{second} = {first}}} for one class, or by labels = "
                    f"{{{first} = {first}, {second} = {second}}} for two"
                )

    def _check_single(self, names: set[str], where: object) -> None:
        """Refuse labels that are several classes: cat|dog beside cat and dog."""
        for name in sorted(names - self.classes - set(self.renamed.values())):
            parts = [part.strip() for part in SEVERAL.split(name)]
            if len(parts) > 1 and names.issuperset(parts):
                raise PipelineError(
                    f"{where} has the class {quote(name)} beside {_listing(parts)}, but an image "
                    f"has one class: give it one, or write labels = {{{quote(name)} = "
                    f"{quote(name)}}} in {self.toml} if it is a class of its own"
                )

    def _check_several(self, names: set[str], where: object, origin: str) -> None:
        if names and len(names) < self.least:
            raise PipelineError(
                f"{where}: all images would be of the class {quote(min(names))}"
                f"{f', by {origin}' if origin else ''}, but a classifier needs at least two "
                "classes: docs/datasets.md lists the layouts that are understood"
            )

    def _check_listed(self, names: set[str], where: object) -> None:
        if not self.classes or names == self.classes:
            return
        missing, others = sorted(self.classes - names), sorted(names - self.classes)
        if not others:
            difference = f"no image of {_listing(missing)}"
        elif missing:
            difference = f"{_listing(others)} instead of {_listing(missing)}"
        else:
            difference = f"also {_listing(others)}"
        raise PipelineError(
            f"{where} has other classes than {self.toml} lists ({difference}): "
            f"{self._advice(others, missing)}"
        )

    def _advice(self, others: list[str], missing: list[str]) -> str:
        advice = "correct the source, or `classes` there"
        if self.source != AS_DESCRIBED:
            advice = (
                f"set -S dataset.source={AS_DESCRIBED} for the images that belong to this data "
                "set, or -S dataset.name=images for your own"
            )
        for other in others:
            for name in missing:
                if _skeleton(other) == _skeleton(name):
                    return f"{advice}; {quote(other)} = {quote(name)} under [labels] renames one"
        return advice


def _check_markup(names: set[str], where: object) -> None:
    # DVC writes class names as they are into a script of its page of plots, which this would end.
    if markup := sorted(name for name in names if "</" in name):
        raise PipelineError(
            f"{where} has a class whose name is markup, {quote(markup[0])}: rename its label to "
            'one without "</"'
        )


def quote(name: str) -> str:
    """Return a name in quotes, with code points that print as nothing as escapes."""
    text = "".join(
        character if character == " " or not _is_blank(character) else _escape(character)
        for character in name.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{text}"'


def _escape(character: str) -> str:
    """As TOML writes it in a quoted key."""
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def _is_blank(character: str) -> bool:
    return character.isspace() or _is_invisible(character)


def _is_invisible(character: str) -> bool:
    """Whether it prints as nothing, and is not white space."""
    if character.isspace():
        return False
    is_control = unicodedata.category(character) in {"Cc", "Cf"}
    return is_control or character in SHAPELESS or ord(character) in SELECTORS


def _without_invisible(name: str) -> str:
    return "".join(character for character in name if not _is_invisible(character))


def _skeleton(name: str) -> str:
    """The same for names that people take for the same, whatever their case, width and blanks."""
    folded = unicodedata.normalize("NFKC", _without_invisible(name)).casefold()
    return " ".join(unicodedata.normalize("NFKC", _without_invisible(folded)).split())


def _difference(name: str, other: str) -> str:
    if name.casefold() == other.casefold():
        return "case"
    if name.split() == other.split():
        return "white space"
    if _without_invisible(name) == _without_invisible(other):
        return "invisible characters"
    return "the form of their characters"


def _listing(names: list[str]) -> str:
    more = [f"{len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return ", ".join([*map(_quote_if_odd, names[:MAX_LISTED]), *more])


def _quote_if_odd(name: str) -> str:
    """In quotes only if a part of it does not print."""
    is_plain = name == " ".join(_without_invisible(name).split())
    return name if is_plain else quote(name)
