"""Pictures that people called wrong, kept in a folder for review; nothing trains on them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from filelock import lock_descriptor

from pipeline.commands.serve.limits import Refusal
from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import distinct_file_names
from pipeline.images.format_detection import EXTENSIONS, detect_format, starts_late

MAX_PICTURES = 1000
MAX_BYTES = 2**30
START_BYTES = 64  # enough to tell a format
PREFERRED = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}


def check_label(label: str, classes: Sequence[str]) -> None:
    """
    Raises:
        Refusal: it is no class of the model.
    """
    if label not in classes:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the label is no class of the model")


class FeedbackFolder:
    """A folder per class that people named, with their pictures; bounded."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            PipelineError: the folder cannot be made.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._measure()
        except OSError as error:
            raise PipelineError(f"--feedback {folder} cannot be used ({error.strerror})") from error

    def keep(self, image: bytes, label: str, classes: Sequence[str]) -> None:
        """Keep a picture that can be decoded, under the class that a person named.

        Raises:
            Refusal: it is no class of the model, or the folder is full.
        """
        check_label(label, classes)
        start = starts_late(image[:START_BYTES])
        form = detect_format(image[start : start + START_BYTES]) or ""
        suffix = PREFERRED.get(form) or min(EXTENSIONS.get(form, {""}))
        path = (
            self._folder / distinct_file_names(classes)[label] / f"{shards.digest(image)}{suffix}"
        )
        try:
            with self._locked():
                self._add(path, image)
        except OSError as error:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE, "the picture cannot be kept: the disk fails"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads and processes from adding pictures: they would exceed the limits."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            lock_descriptor(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _add(self, path: Path, image: bytes) -> None:
        if path.exists():
            return
        count, size = self._measure()
        if count >= MAX_PICTURES or size + len(image) > MAX_BYTES:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE, "the folder for feedback is full: tell its owner"
            )
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.parent.chmod(0o700)  # an older version, or a person, may have made it
        with atomic.replacing(path) as staged:
            staged.write_bytes(image)
            staged.chmod(0o600)

    def _measure(self) -> tuple[int, int]:
        """The number of pictures and their bytes; people remove some at any time."""
        sizes = [path.stat().st_size for path in self._folder.rglob("*") if path.is_file()]
        return len(sizes), sum(sizes)
