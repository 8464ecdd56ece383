"""Which folders are named after splits: train, val2017, training_set, seg_test."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import cycle

from pipeline.core.shards import SPLITS
from pipeline.core.unicode import to_nfc

WORD = re.compile(r"[^\W\d_]+")
# Words in the names of split folders that say nothing.
FILLERS = frozenset(
    {"data", "dataset", "folder", "image", "images", "img", "imgs", "photos", "set"}
)


def find_split(name: str, splits: Mapping[str, str]) -> str | None:
    """The split that a folder is named after, whatever is beside it: train, val2017, test_set.

    Args:
        splits: Name of a split, in lower case -> split.
    """
    split, others = _parse(name, splits)
    return None if others else split


def find_splits(names: Collection[str], splits: Mapping[str, str]) -> dict[str, str]:
    """The split of each folder of one level that is named after one.

    A folder is, if its name is that of a split. Names with a split among other words count where
    they differ in the split alone and name several, as seg_train and seg_test do: steam_train is
    a class, and so are train_station and test_tube.

    Args:
        splits: Name of a split, in lower case -> split.
    """
    by_others: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        split, others = _parse(name, splits)
        if split is not None:
            by_others.setdefault(others, {})[name] = split
    exact = {name: splits[key] for name in names if (key := _key(name)) in splits}
    several = [group for group in by_others.values() if len(set(group.values())) > 1]
    if exact:
        return exact | next((group for group in several if exact.items() <= group.items()), {})
    return several[0] if len(several) == 1 else {}


def format_splits(names: Iterable[str], splits: Mapping[str, str]) -> str:
    """An example of a line of dataset.toml: the split of each name, guessed if it is in no word."""
    guesses = zip(names, cycle(SPLITS), strict=False)
    pairs = (f'{_quote(name)} = "{_split_word(name, splits) or guess}"' for name, guess in guesses)
    return f"splits = {{{', '.join(pairs)}}}"


def _split_word(name: str, splits: Mapping[str, str]) -> str | None:
    words = (_key(name).strip(), *WORD.findall(_key(name)))
    return next((splits[word] for word in words if word in splits), None)


def _quote(name: str) -> str:
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _parse(name: str, splits: Mapping[str, str]) -> tuple[str | None, tuple[str, ...]]:
    """The split in a name, if there is just one, and the other words that say something."""
    if (key := _key(name)) in splits:
        return splits[key], ()
    words = WORD.findall(key)
    named = [word for word in words if word in splits]
    others = tuple(word for word in words if word not in splits and word not in FILLERS)
    return (splits[named[0]], others) if len(named) == 1 else (None, ())


def _key(name: str) -> str:
    return to_nfc(name).lower()
