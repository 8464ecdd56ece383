import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import isolated_pool
from pipeline.network.loading import view_loader
from pipeline.network.loading.streams import NoStreams, Reached
from pipeline.network.loading.view_loader import TASK, LoadedBatch, ViewLoader
from pipeline.network.views import EncodedImages, Views
from tests import ROOT
from tests.builders.clean_rows import clean_row
from tests.builders.features import PREPROCESS
from tests.builders.images import encode_png
from tests.fakes.numbered_images import CRASHES, KILLS, KILLS_ONCE, RAISES, SIZE, NumberedImages

CPU = NoStreams(torch.device("cpu"))


@pytest.fixture(scope="module")
def loader() -> Iterator[ViewLoader]:
    shared = ViewLoader(SIZE, 2 * TASK, CPU, processes=1)
    yield shared
    shared.close()


def load(loader: ViewLoader, images: NumberedImages, batches: list[list[int]]) -> list[list[int]]:
    """The numbers of the images in each batch."""
    numbers = []
    for batch in loader.batches(images, batches):
        numbers.append(numbers_of(batch.pixels))
        batch.used = Reached()
    return numbers


def numbers_of(pixels: Tensor) -> list[int]:
    low, high = pixels[:, 0, 0, 0].int(), pixels[:, 1, 0, 0].int()
    numbers: list[int] = (low + 256 * high).tolist()
    return numbers


def test_batches_come_in_order_and_whole(loader: ViewLoader, tmp_path: Path) -> None:
    rows = list(range(20 * TASK))
    batches = [rows[start : start + 2 * TASK] for start in range(0, len(rows), 2 * TASK)]
    batches += [[7], list(range(TASK + 1))]
    assert load(loader, NumberedImages(tmp_path), batches) == batches


def test_no_batches_give_none(loader: ViewLoader, tmp_path: Path) -> None:
    assert load(loader, NumberedImages(tmp_path), []) == []


def test_a_batch_stays_until_it_is_used(tmp_path: Path, loader: ViewLoader) -> None:
    """A copy to a device may still read it while later batches are loaded."""

    class Copy:
        """An event whose copy is made when something waits for it."""

        def __init__(self, batch: LoadedBatch) -> None:
            self.pixels, self.copy = batch.pixels, torch.empty(0)

        def synchronize(self) -> None:
            if not len(self.copy):
                self.copy = self.pixels.clone()

    batches = [[number] * 5 for number in range(30)]
    copies = []
    for batch in loader.batches(NumberedImages(tmp_path), batches):
        batch.used = Copy(batch)
        copies.append(batch.used)
    for copy in copies:
        copy.synchronize()
    assert [numbers_of(copy.copy) for copy in copies] == batches


def test_a_killed_process_is_not_the_fault_of_its_image(loader: ViewLoader, tmp_path: Path) -> None:
    batches = [[1, 2], [3, KILLS_ONCE, 4], [5]]
    assert load(loader, NumberedImages(tmp_path), batches) == batches
    assert (tmp_path / "killed").exists()


def test_processes_killed_again_and_again_are_a_sentence(
    loader: ViewLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolated_pool, "PAUSES", (0.01,))
    with pytest.raises(PipelineError, match=r"while it decoded image 1002, and not by the image's"):
        load(loader, NumberedImages(tmp_path), [[1, KILLS]])


def test_an_image_that_crashes_its_process_is_named(loader: ViewLoader, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"^image 1003 breaks its decoder.*reject\.csv"):
        load(loader, NumberedImages(tmp_path), [[1, CRASHES]])


def test_an_error_in_a_process_is_raised_here(loader: ViewLoader, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="the stored image has changed"):
        load(loader, NumberedImages(tmp_path), [[number] for number in range(40)] + [[RAISES]])
    assert load(loader, NumberedImages(tmp_path), [[1], [2]]) == [[1], [2]]  # it works on


def test_an_error_of_the_caller_ends_the_processes(tmp_path: Path) -> None:
    before = {process.pid for process in loader_processes()}
    loader = ViewLoader(SIZE, TASK, CPU, processes=1)
    batches = loader.batches(NumberedImages(tmp_path), [[number] for number in range(100)])
    next(batches).used = Reached()
    with pytest.raises(ValueError, match="no"):
        batches.throw(ValueError("no"))
    assert {process.pid for process in loader_processes()} <= before
    loader.close()


def loader_processes() -> list[psutil.Process]:
    """Those of this process, without the one that watches over resources."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "resource_tracker" not in " ".join(process.cmdline())
    ]


def test_batches_in_memory_are_bounded(tmp_path: Path, loader: ViewLoader) -> None:
    """By the number of processes, however slow the consumer is."""
    taken: list[int] = []

    def batches() -> Iterator[list[int]]:
        for number in range(200):
            taken.append(number)
            yield [number % 100] * (2 * TASK)

    running = loader.batches(NumberedImages(tmp_path), batches())
    for done, batch in enumerate(running, start=1):
        batch.used = Reached()
        assert len(taken) - done <= loader._shape[0]


def test_a_shard_that_changed_on_disk_is_refused(tmp_path: Path, loader: ViewLoader) -> None:
    png = encode_png(np.zeros((SIZE, SIZE, 3), np.uint8))
    rows = [clean_row("a", png), clean_row("b", png) | {"bytes": png[:-1] + b"?"}]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    encoded = EncodedImages(tmp_path / "clean", ["a", "b"])
    views = Views(encoded.ids, encoded, PREPROCESS.model_copy(update={"size": SIZE}))
    with pytest.raises(PipelineError, match="has changed on disk"):
        list(loader.batches(views, [[0, 1]]))


def test_processes_get_the_places_of_images_and_not_their_bytes(tmp_path: Path) -> None:
    rows = [clean_row(f"{number:03d}", bytes(10_000)) for number in range(100)]
    shards.write(tmp_path / "clean", shards.CLEAN, rows)
    encoded = EncodedImages(tmp_path / "clean", [row["id"] for row in rows])
    assert len(encoded[7]) == 10_000
    views = Views(encoded.ids, encoded, PREPROCESS)
    data = pickle.dumps(views)
    assert len(data) < 20_000
    assert pickle.loads(data).encoded[7] == encoded[7]


def test_a_share_of_the_cores_is_used_when_several_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_loader, "cpu_count", lambda: 12)
    assert view_loader.usable_cores() == 12
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 5)
    assert view_loader.usable_cores() == 2


INTERRUPTED = """
import sys
from pathlib import Path
import psutil
from pipeline.network.loading.streams import NoStreams, Reached
from pipeline.network.loading.view_loader import TASK, ViewLoader
from tests.fakes.numbered_images import SIZE, NumberedImages
CPU = NoStreams("cpu")
children = lambda: [process.pid for process in psutil.Process().children(recursive=True)]
loader = ViewLoader(SIZE, TASK, CPU, processes=1)
for batch in loader.batches(NumberedImages(Path(sys.argv[1])), ([1] for _ in iter(int, 1))):
    batch.used = Reached()
    print(*children(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors if number == signal.SIGINT else not errors
    end = time.monotonic() + 30
    while any(worker.is_running() for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(worker.is_running() for worker in workers)
