"""How fast a GPU computes features, trains a head and trains a network."""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
import psutil
import torch
from joblib import cpu_count
from torch import nn

from bench.gpu_bench import CPU, Bench, Row, closing_prefix, figure, synchronize
from bench.loader import decode_rate
from pipeline.core import columns
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.memory_format import channels_last
from pipeline.params import Params
from pipeline.stages.features import compute
from pipeline.stages.train import loop, setup
from pipeline.stages.train.optimizer import make_optimizer
from pipeline.stages.train.state import Job

GOAL = 0.9  # of bare forward passes
EPOCHS = 30
HEAVY = "resnet50"  # which a GPU computes more slowly than most machines decode
MANY = 50_000  # training images of the larger head


def rate(step: Callable[[], int], where: torch.device, seconds: float) -> float:
    """Images per second of a step that returns its images; three steps come before."""
    for _ in range(3):
        step()
    synchronize(where)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += sum(step() for _ in range(4))
        synchronize(where)
    return images / (time.perf_counter() - start)


def features(bench: Bench) -> Iterator[Row]:
    """Through the stage's own path, beside bare forward passes and bare decoding."""
    processes = 1 if bench.tiny else cpu_count()
    prefix = bench.prefix(bench.device)
    decoding = decode_rate(bench.views(prefix), bench.seconds, processes).per_second
    yield figure("bare decoding", decoding, "images/s", f"by {processes} processes")
    yield from _features_of(bench, prefix, decoding, "")
    if not bench.tiny and bench.params.model.backbone != HEAVY:
        heavy = bench.prefix(bench.device, model__backbone=HEAVY, model__weights="none")
        yield from _features_of(bench, heavy, decoding, f", {HEAVY}")


def _features_of(bench: Bench, prefix: FrozenPrefix, decoding: float, name: str) -> Iterator[Row]:
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    pixels = bench.pixels(prefix, prefix.sub_batch).to(bench.device)

    def forward() -> int:
        prefix(pixels)
        return len(pixels)

    bare = rate(forward, bench.device, bench.seconds)
    note = f"{prefix.precision}, batches of {prefix.sub_batch}, views on the device"
    yield figure(f"bare forward passes{name}", bare, "images/s", note)
    with closing_prefix(prefix):
        through = _through_loader(bench, prefix)
        memory = _memory_of_processes()
    note = "decoded, computed and copied to the host"
    yield figure(f"features{name}", through, "images/s", note)
    yield figure(f"features / bare forward passes{name}", through / bare, "", f"goal {GOAL}")
    note = f"goal {GOAL}: where cores decode more slowly than the GPU computes, they are the limit"
    slower = min(bare, decoding)
    yield figure(f"features / the slower of the two{name}", through / slower, "", note)
    yield from _memory(bench, f"features{name}")
    yield figure(f"memory of all processes{name}", memory, "GiB", "proportional set size")


def _through_loader(bench: Bench, prefix: FrozenPrefix) -> float:
    """Images per second, after as many as may be decoded ahead."""
    views = bench.views(prefix)
    indices = cycle(range(len(views)))
    order = iter(lambda: list(islice(indices, prefix.sub_batch)), [])
    results = prefix.activations(views, order, on_host=True)
    for _ in range(2 if bench.tiny else 16):
        next(results)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < 2 * bench.seconds:
        images += len(next(results)[0])
    return images / (time.perf_counter() - start)


def _memory_of_processes() -> float:
    """GiB of this process and its children; pages that they share count once."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in processes) / 2**30)


def _memory(bench: Bench, name: str) -> Iterator[Row]:
    """Of the device where it is a GPU, and of this process."""
    if bench.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(bench.device) / 2**30
        yield figure(f"GPU memory, {name}", peak, "GiB", "at most, without torch's cache")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    yield figure(f"memory of this process, {name}", resident, "GiB", "at most so far")


def head(bench: Bench) -> Iterator[Row]:
    """Seconds of 30 epochs of a head on stored features."""
    folder, _ = bench.stored("device", bench.prefix(bench.device), bench.params)
    params = bench.override(train__epochs=2 if bench.tiny else EPOCHS)
    _seconds_of(bench, bench.job(params, folder), bench.examples, params)  # loads libraries
    seconds = _seconds_of(bench, bench.job(params, folder), bench.examples, params)
    images, size = len(bench.examples.rows("train")), params.train.batch_size
    note = f"{images} images, batches of {size}, the second of two runs"
    yield figure(f"{params.train.epochs} epochs of a head", seconds, "s", note)
    yield from _large_head(bench, params.train.epochs)


def _seconds_of(bench: Bench, job: Job, examples: Examples, params: Params) -> float:
    start = time.perf_counter()
    for _ in loop.fit(job, examples, params.train):
        pass
    synchronize(bench.device)
    return time.perf_counter() - start


def _large_head(bench: Bench, epochs: int) -> Iterator[Row]:
    """Random features of many images."""
    count = 400 if bench.tiny else MANY
    params = bench.override(
        train__epochs=epochs, train__batch_size=512, features__views=0, images__augment="none"
    )
    random = np.random.default_rng(0)
    splits = ["val" if row % 10 == 0 else "train" for row in range(count)]
    ids = [f"{row:06d}" for row in range(count)]
    examples = Examples.of(ids, torch.arange(count) % 2, splits, ["a", "b"], ids)
    prefix = bench.prefix(bench.device)
    index = compute.describe(params, prefix, examples)
    folder = bench.folder / "features of many"
    folder.mkdir()
    feature_store.write_index(folder, index)
    for tensor, shape in enumerate(index.shapes):
        values = random.normal(size=(count, *shape)).astype(np.float32)
        np.save(feature_store.array_path(folder, 0, tensor), values)
    seconds = _seconds_of(bench, bench.job(params, folder, examples), examples, params)
    yield figure(f"{epochs} epochs of a head, {count} images", seconds, "s", "batches of 512")


def fine_tuning(bench: Bench) -> Iterator[Row]:
    """The whole network, beside a plain loop over images that are already on the device."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    size = 8 if bench.tiny else 64
    epochs = 2 if bench.tiny else 5
    params = bench.override(
        model__trainable="all", train__batch_size=size, train__epochs=epochs, train__lr=1e-4
    )
    folder, _ = bench.stored(
        "nothing frozen", bench.prefix(bench.device, model__trainable="all"), params
    )
    splits = ["none" if split != "train" else split for split in bench.examples.splits.to_pylist()]
    splits[: len(splits) // 20] = ["val"] * (len(splits) // 20)  # few: only training counts
    examples = replace(bench.examples, splits=columns.texts(splits))
    ours = _training_rate(bench.job(params, folder), examples, params)
    plain = _plain_rate(bench, params)
    note = f"batches of {size}, {bench.params.device.precision}"
    yield figure("fine-tuning", ours, "images/s", f"{note}, decoding and augmenting included")
    yield figure("plain torch loop", plain, "images/s", f"{note}, images on the device")
    yield figure("fine-tuning / plain loop", ours / plain, "")
    yield from _memory(bench, "fine-tuning")


def _training_rate(job: Job, examples: Examples, params: Params) -> float:
    """Images per second of all epochs but the first, which starts processes."""
    ends = [time.perf_counter() for _ in loop.fit(job, examples, params.train)]
    return len(examples.rows("train")) * (len(ends) - 1) / (ends[-1] - ends[0])


def _plain_rate(bench: Bench, params: Params) -> float:
    """Images per second of forward passes, backward passes and steps alone."""
    assembled = setup.assemble(params, len(bench.examples.classes))
    network: nn.Module = channels_last(assembled.network.to(bench.device)).train()
    optimizer = make_optimizer(network, params.train, frozenset())
    prefix = bench.prefix(CPU)
    pixels = bench.pixels(prefix, params.train.batch_size).to(bench.device)
    labels = torch.arange(len(pixels), device=bench.device) % 2

    def step() -> int:
        optimizer.zero_grad()
        with bench.fabric.autocast():
            scores = network(prefix.preprocess.normalise(pixels))
        nn.functional.cross_entropy(scores, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return len(pixels)

    return rate(step, bench.device, bench.seconds)
