"""The log of a service: features and answers of images, without the images.

A line is a JSON object with `fingerprint` (of the model's training), `model`, `label`,
`probability` and `features`, in base64: little-endian float16, feature maps averaged.
"""

import base64
import errno
import json
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, warn
from pipeline.inference import strict_json
from pipeline.inference.classifier import Classification, Classifier
from pipeline.inference.computed_features import Values

MAX_BYTES = 2**26  # of a file; a full one replaces that of the suffix below
FORMER = ".1"
LOCK = ".lock"  # of all processes that append to the file
LOCK_SECONDS = 10  # to wait for another process, which appends within milliseconds
START = b'{"fingerprint":'  # of each line
BLOCK = 2**16  # bytes that are read at a time from the end of the file
LARGEST = float(np.finfo(np.float16).max)
DAMAGES = (ValueError, KeyError, TypeError, OverflowError)  # that `_parse` raises


@dataclass(frozen=True)
class LoggedAnswer:
    """A line of the log."""

    fingerprint: str
    label: str
    probability: float
    """Of `label`, calibrated, in 0..1."""
    features: Values
    """(D,)"""


class AnswerLog:
    """Appends answers to a file, and keeps it and the file before it within `MAX_BYTES` each.

    Several processes may append to one file. A failing disk ends the log with a warning, not the
    service.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            PipelineError: the file cannot be written, or is something else than a log.
        """
        self._path = path
        self._lock = threading.Lock()
        self._file_lock = FileLock(
            f"{path}{LOCK}", LOCK_SECONDS, mode=0o600, thread_local=False, poll_interval=0.005
        )
        self._has_failed = False
        try:
            for file_path in (path, Path(f"{path}{FORMER}")):
                _check_is_log(file_path)
            self._append("")
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise PipelineError(f"--log {path} cannot be written ({reason})") from error

    def add(
        self,
        classifier: Classifier,
        name: str,
        answers: Iterable[Classification],
        features: Iterable[Values | None],
    ) -> None:
        """Log the answers that have no problem.

        Args:
            name: Of the model.
            features: (D,) of each image that has an answer.
        """
        lines = [
            _line(classifier.card.fingerprint, name, answer, values)
            for answer, values in zip(answers, features, strict=True)
            if answer.problem is None and values is not None
        ]
        with self._lock:
            if self._has_failed or not lines:
                return
            try:
                self._append("".join(lines))
            except OSError as error:
                self._has_failed = True
                warn(f"nothing more is logged to {self._path}: {one_line(error)}")

    def _append(self, text: str) -> None:
        """Append whole lines; a process that is killed within leaves the last one cut off."""
        with self._file_lock:
            with self._open() as file:
                size = _remove_partial_line(file)
                if not size or size + len(text) <= MAX_BYTES:
                    file.write(text.encode("ascii"))
                    return
            self._path.replace(f"{self._path}{FORMER}")
            with self._open() as file:
                file.write(text.encode("ascii"))

    def _open(self) -> BinaryIO:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        return os.fdopen(os.open(self._path, flags, 0o600), "a+b")


def _check_is_log(path: Path) -> None:
    """Raise unless a file is a log, or empty, or absent: others lose what follows their last line.

    Raises:
        PipelineError: it is something else.
    """
    if not path.exists():
        return
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    is_log = stat.S_ISREG(mode)
    if is_log:
        with path.open("rb") as file:
            lines = [file.readline(MAX_BYTES), _read_last_line(file)]
        is_log = all(_is_whole(line) or _is_cut_off(line) for line in lines)
    if not is_log:
        raise PipelineError(f"--log {path} is no log of a service: name another file")


def _is_whole(line: bytes) -> bool:
    try:
        _parse(line)
    except DAMAGES:
        return False
    return True


def _is_cut_off(line: bytes) -> bool:
    """Whether this is the start of a line of a log; also an empty one."""
    begins_alike = line.startswith(START) or START.startswith(line)
    return begins_alike and not line.rstrip().endswith(b"}") and b"\n" not in line


def _remove_partial_line(file: BinaryIO) -> int:
    """Remove a last line that a kill has cut off; return the size of the file."""
    size = file.seek(0, os.SEEK_END) - len(_read_last_line(file))
    file.truncate(size)
    return size


def _read_last_line(file: BinaryIO) -> bytes:
    """What follows the last line end of a file."""
    position = file.seek(0, os.SEEK_END)
    line = b""
    while position and b"\n" not in line:
        start = max(0, position - BLOCK)
        file.seek(start)
        line = file.read(position - start) + line
        position = start
    return line[line.rfind(b"\n") + 1 :]


def _line(fingerprint: str, model: str, answer: Classification, features: Values) -> str:
    packed = np.clip(features, -LARGEST, LARGEST).astype("<f2").tobytes()
    record = {
        "fingerprint": fingerprint,
        "model": model,
        "label": answer.label,
        "probability": answer.probability,
        "features": base64.b64encode(packed).decode(),
    }
    return json.dumps(record) + "\n"


def is_log(path: Path) -> bool:
    """Whether a file begins like a log."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(START)) == START


def read_log(path: Path) -> Iterator[LoggedAnswer]:
    """Yield the answers in a log, the file before it first. A last line may be cut off.

    Raises:
        PipelineError: another line is damaged.
    """
    former = Path(f"{path}{FORMER}")
    for file_path in [*([former] if former.exists() else []), path]:
        with file_path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield _parse(line)
                except DAMAGES as error:
                    raise PipelineError(f"line {number} of {file_path} is damaged") from error


def _parse(line: bytes) -> LoggedAnswer:
    record = strict_json.parse(line)
    features = np.frombuffer(base64.b64decode(record["features"], validate=True), "<f2")
    probability = float(record["probability"])
    if not (features.size and np.isfinite(features).all() and 0 <= probability <= 1):
        raise ValueError(line[:80])
    texts = record["fingerprint"], record["label"]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(line[:80])
    return LoggedAnswer(*texts, probability, features.astype(np.float32))
