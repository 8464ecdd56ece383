"""What a kill leaves of dvc.lock: DVC writes it in place, so the file may end at any byte."""

import re
from collections.abc import Mapping
from typing import Any

from pipeline.core import dvc_lock
from pipeline.core.dvc_lock import Lock
from pipeline.core.errors import PipelineError

# Of git's merges, also where somebody removed some of the lines by hand.
CONFLICT = re.compile(rb"^([<>|]{7} |={7}\r?$)", re.MULTILINE)
SCHEMA = "2.0"  # of DVC 3
DIGESTS = {"md5", "etag", "checksum", "files", "cloud"}  # an out in dvc.lock has one of these

Outs = Mapping[str, frozenset[str]]
"""The paths of the outs of each stage of dvc.yaml."""


def has_conflict(text: bytes) -> bool:
    """Whether a merge has left the lines of both sides."""
    return CONFLICT.search(text) is not None


def find_defect(text: bytes) -> str:
    """Why DVC cannot read a dvc.lock, as the end of a sentence; "" if it can."""
    if not text.strip(b"\0\r\n "):
        return "is empty"
    try:
        content = dvc_lock.load(text)
    except PipelineError:
        return "is not YAML"
    return "" if _is_lock(content) else f"is not a lock file of schema {SCHEMA}"


def _is_lock(content: object) -> bool:
    """Source: LOCKFILE_SCHEMA in dvc/schema.py."""
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        return False
    stages = content.get("stages", {})
    return isinstance(stages, Mapping) and all(
        isinstance(stage, Mapping) and isinstance(stage.get("cmd"), str | list)
        for stage in stages.values()
    )


def find_loss(text: bytes, last_good: bytes, outs: Outs) -> str:
    """What a dvc.lock that DVC can read has lost at its end; "" if nothing.

    Args:
        text: With the line ends of any system.
        last_good: An earlier text, which DVC can read.
    """
    text, last_good = text.replace(b"\r\n", b"\n"), last_good.replace(b"\r\n", b"\n")
    if text == last_good:
        return ""
    if last_good.startswith(text):
        return f"ends after {len(text):,} bytes of {len(last_good):,}"
    if not text.endswith((b"\n", b"}")):  # DVC ends every line; flow style ends with a bracket
        return "ends within a line"
    return _find_lost_entries(dvc_lock.parse(text), dvc_lock.parse(last_good), outs)


def _find_lost_entries(lock: Lock, last_good: Lock, outs: Outs) -> str:
    names, expected = list(lock), list(last_good)
    if names and _has_lost_outs(
        lock[names[-1]], last_good.get(names[-1], {}), _outs(outs, names[-1])
    ):
        return f"ends within the stage {names[-1]}"
    # DVC keeps the order of the stages, so a cut loses the last ones.
    lost = [name for name in expected[len(names) :] if _outs(outs, name)]
    return f"ends before the stage {lost[0]}" if lost and names == expected[: len(names)] else ""


def _outs(outs: Outs, stage: str) -> frozenset[str]:
    return outs.get(stage.split("@")[0], frozenset())  # "@": an item of `foreach` or `matrix`


def _has_lost_outs(
    stage: Mapping[str, Any], last_good: Mapping[str, Any], outs: frozenset[str]
) -> bool:
    """Whether the entry of a stage ends before its last out does. The outs come last in it."""
    entries, expected = _by_path(stage), _by_path(last_good)
    if not entries:
        return bool(outs)
    last = list(entries)[-1]
    lost = [path for path in list(expected)[len(entries) :] if path in outs]
    return (
        not DIGESTS & entries[last].keys()
        or bool(expected.get(last, {}).keys() - entries[last].keys())  # such as size
        or (bool(lost) and list(entries) == list(expected)[: len(entries)])
    )


def _by_path(stage: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    entries = stage.get("outs")
    return {
        str(entry.get("path")): entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, Mapping)
    }
