"""What the processes of a `ViewLoader` do. It imports no torch: what renders the views does."""

from dataclasses import dataclass
from typing import Protocol

import numpy.typing as npt

from pipeline.core.errors import PipelineError
from pipeline.images import sandbox
from pipeline.network.loading.shared_buffer import SharedBuffer
from pipeline.network.malloc import keep_freed_memory

MEMORY = sandbox.memory_for(100)  # bytes that a process may allocate for a task
MALLOC_PAD = 16 * 2**20  # bytes


class IndexedImages(Protocol):
    """Images by index. It pickles as a few numbers per image."""

    def __getitem__(self, index: int, /) -> npt.ArrayLike:
        """Its view, uint8 (3, size, size)."""
        ...

    def name(self, index: int) -> str:
        """What to call it in an error message."""
        ...


@dataclass(frozen=True)
class Task:
    """Views to render into a part of a slot of the buffer."""

    slot: int
    start: int
    """The first row of the slot to fill."""
    indices: list[int]


def prepare() -> None:
    """What each process does first."""
    keep_freed_memory(MALLOC_PAD)


def render(images: IndexedImages, buffer: SharedBuffer, task: Task) -> None:
    """Fill the rows of a task."""
    rows = buffer.values[task.slot]
    for row, index in enumerate(task.indices, start=task.start):
        rows[row] = images[index]


def split(task: Task) -> list[Task]:
    """A task per view."""
    return [
        Task(task.slot, row, [index]) for row, index in enumerate(task.indices, start=task.start)
    ]


def refuse(images: IndexedImages, task: Task) -> None:
    """Raise PipelineError for an image that breaks its process."""
    raise PipelineError(
        f"{name(images, task)} breaks its decoder, or needs more than {MEMORY / 1e9:.1f} GB: add "
        "its id to reject.csv beside dataset.toml, and run `dvc repro`"
    )


def name(images: IndexedImages, task: Task) -> str:
    """What to call the image of a task of one view."""
    return images.name(task.indices[0])
