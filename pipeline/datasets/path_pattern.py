"""Patterns of paths, with the label, the split or the group in them."""

import re

from pipeline.core.unicode import to_nfc

MAX_NAME = 1000  # characters; matching may take time with their square
TOKEN = re.compile(r"\{(?:label|split|group)\}|\*\*?|#")
TEXT = re.compile(r"(\{(?:label|split|group)\}|\*\*?)")
SEPARATORS = " ._-"


class PathPattern:
    """A pattern of paths: `{label}`, `{split}` and `{group}` name parts of them.

    `*` is any text and `#` a number, all within one folder or name; `**` is any text of several
    folders. A pattern is compared with the end of a path, or with all of it if it starts with a
    slash; the suffix of the file need not be given. `{label}` takes as little as it can: of
    a_b_1.jpg, `{label}_*` takes a, `{label}_#` a_b. Both are compared in Unicode's composed
    form.
    """

    def __init__(self, text: str) -> None:
        """Compile a pattern.

        Raises:
            ValueError: it lacks {label}, or has a part twice.
        """
        parts = TOKEN.findall(text)
        if parts.count("{label}") != 1 or any(
            parts.count(f"{{{name}}}") > 1 for name in ("split", "group")
        ):
            raise ValueError(
                f"{text!r} should have {{label}} once, {{split}} and {{group}} at most"
            )
        if stray := re.search(r"[{}]", TOKEN.sub("", text)):
            raise ValueError(
                f"{text!r} has {stray[0]!r} outside {{label}}, {{split}} and {{group}}"
            )
        self.text = text
        start = "^" if text.startswith("/") else "(?:^|/)"
        self._regex = re.compile(rf"{start}{_body(to_nfc(text).removeprefix('/'))}(?:\.[^./]*)?\Z")

    def match(self, name: str) -> re.Match[str] | None:
        """Match the path of a file."""
        return self._regex.search(to_nfc(name)) if len(name) <= MAX_NAME else None

    def find_label(self, name: str) -> str | None:
        """The label in the path of a file: a text with a letter; None where there is none."""
        match = self.match(name)
        label = match["label"].strip(SEPARATORS) if match else ""
        return label if any(character.isalpha() for character in label) else None


def _body(pattern: str) -> str:
    """The regular expression of a pattern.

    What follows a text is found at its first place, once for all (an atomic group), as in a shell's
    patterns: backtracking would take time with a power of the name's length.
    """
    first, *rest = TEXT.split(pattern)
    texts = [
        _text(token) + _literal(after) for token, after in zip(rest[::2], rest[1::2], strict=True)
    ]
    return "".join([_literal(first), *(f"(?>{text})" for text in texts[:-1]), *texts[-1:]])


def _text(wildcard: str) -> str:
    if wildcard == "**":
        return r"[\s\S]*?"
    return "[^/]*?" if wildcard == "*" else f"(?P<{wildcard[1:-1]}>[^/]+?)"


def _literal(text: str) -> str:
    return "[0-9]++".join(map(re.escape, text.split("#")))
