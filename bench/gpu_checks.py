"""Whether a GPU computes what a CPU does, and the same every time."""

import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from bench.gpu_bench import CPU, Bench, Row, check, figure, relative_error
from pipeline.core import columns
from pipeline.network import device, feature_arrays, feature_store, scoring, weights
from pipeline.network.inference_devices import inference_devices
from pipeline.network.views import EVALUATION
from pipeline.stages.train import loop, setup
from pipeline.stages.train.state import Job

# Largest relative error. By default cuDNN rounds the factors of float32 to TF32's ten bits.
LIMITS = {"32-true": 5e-3, "bf16-mixed": 5e-2, "16-mixed": 2e-2}
GRADIENT_LIMIT = 2e-2
MIDDLE = {
    "mobilenet_v2": "features.14",
    "resnet9_narrow": "layer3",
    "resnet18": "layer4",
    "resnet50": "layer4",
}


def prefix_values(bench: Bench) -> Iterator[Row]:
    """The prefix against the same network in float64 on the CPU."""
    plain = bench.prefix(CPU, "32-true")
    assert plain.cut.prefix is not None
    pixels = bench.pixels(plain, 8 if bench.tiny else 32)
    with torch.no_grad():
        exact = plain.cut.prefix.double()(plain.preprocess.normalise(pixels).double())[0]
    for precision in dict.fromkeys(("32-true", device.fastest("auto", bench.device))):
        prefix = bench.prefix(bench.device, precision)
        parts = torch.split(pixels, prefix.sub_batch)
        values = torch.cat([prefix(part)[0] for part in parts])
        error = relative_error(values, exact)
        limit = LIMITS[precision]
        note = f"norm of the difference over that of float64; at most {limit:g}"
        yield check(f"prefix values, {precision}", error <= limit, error, note)


def company(bench: Bench) -> Iterator[Row]:
    """An image alone, elsewhere in a batch, and among others."""
    for precision in dict.fromkeys(("32-true", device.fastest("auto", bench.device))):
        prefix = bench.prefix(bench.device, precision)
        size = prefix.sub_batch
        pixels = bench.pixels(prefix, size)
        (together,) = prefix(pixels)
        (turned,) = prefix(pixels.flip(0))
        alone = torch.cat([prefix(pixels[n : n + 1])[0] for n in (0, size // 3, size - 1)])
        same = torch.equal(together, turned.flip(0))
        same &= torch.equal(alone, together[[0, size // 3, size - 1]])
        note = f"the same bytes alone, turned round and among {size}"
        yield check(f"values depend on no other image, {precision}", same, None, note)


def gradients(bench: Bench) -> Iterator[Row]:
    """Of the layers that train, against the CPU in float64."""
    params = bench.override(model__trainable=MIDDLE.get(bench.params.model.backbone, "all"))
    by_device: dict[str, dict[str, Tensor]] = {}
    for name, where, dtype in (
        ("cpu", CPU, torch.float64),
        ("device", bench.device, torch.float32),
    ):
        assembled = setup.assemble(params, len(bench.examples.classes))
        network: nn.Module = assembled.network.eval().to(where, dtype)
        views = bench.pixels(bench.prefix(CPU), 4 if bench.tiny else 16)
        images = assembled.preprocess.normalise(views.to(where)).to(dtype)
        labels = torch.arange(len(images), device=where) % 2
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        by_device[name] = {
            key: value.grad.detach().cpu()
            for key, value in network.named_parameters()
            if value.grad is not None
        }
    flat = {
        name: torch.cat([v.flatten().double() for v in by_device[name].values()])
        for name in by_device
    }
    error = relative_error(flat["device"], flat["cpu"])
    same_names = by_device["device"].keys() == by_device["cpu"].keys()
    note = f"of {len(by_device['device'])} weights, relative to float64; at most {GRADIENT_LIMIT:g}"
    yield check("gradients", same_names and error <= GRADIENT_LIMIT, error, note)


def determinism(bench: Bench) -> Iterator[Row]:
    """Features and a fine-tuning twice: the same bytes, or the operations that cannot."""
    digests, names = [], set[str]()
    for _ in range(2):
        prefix = bench.prefix(bench.device)
        pixels = bench.pixels(prefix, 64)
        tensors = [prefix(part)[0] for part in torch.split(pixels, prefix.sub_batch)]
        digests.append(hashlib.sha256(torch.cat(tensors).cpu().numpy().tobytes()).hexdigest())
    yield check("features twice", digests[0] == digests[1], None, "the same bytes")
    states = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            states.append(weights.digest(_fine_tuned(bench).network.state_dict()))
        for warning in caught:
            match = re.match(r"(\S+) does not have a deterministic", str(warning.message))
            names |= {match[1]} if match else set()
    note = f"not deterministic: {', '.join(sorted(names))}" if names else "the same bytes"
    yield check("a fine-tuning twice", states[0] == states[1], None, note)


def _fine_tuned(bench: Bench) -> Job:
    """The whole network, trained for an epoch."""
    params = bench.override(model__trainable="all", train__epochs=1, train__batch_size=16)
    prefix = bench.prefix(bench.device, model__trainable="all")
    folder, _ = bench.stored("nothing frozen", prefix, params)
    job = bench.job(params, folder)
    few = replace(bench.examples, splits=_fewer(bench.examples.splits, 8 if bench.tiny else 256))
    for _ in loop.fit(job, few, params.train):
        pass
    return job


def _fewer(splits: pa.StringArray, train: int) -> pa.StringArray:
    """The same splits with so many training images; the others are in none."""
    names = splits.to_pylist()
    rows = [row for row, split in enumerate(names) if split == "train"]
    for row in rows[train:]:
        names[row] = "none"
    return columns.texts(names)


def resident_features(bench: Bench) -> Iterator[Row]:
    """Features in the GPU's memory against the same read from the disk for each batch."""
    prefix = bench.prefix(bench.device)
    folder, index = bench.stored("device", prefix, bench.params)
    rows = bench.examples.rows("train")
    order = [rows[start::5] for start in range(5)]
    sources = []
    for free in (0, 2**60):
        with patch.object(feature_arrays, "free_memory", lambda _, free=free: free):
            source = feature_store.StoredFeatures(folder, index, bench.examples, prefix)
            sources.append([values.cpu() for (values,) in source.batches(order, EVALUATION)])
    same = all(map(torch.equal, *sources))
    yield check("features in memory and from disk", same, None, "the same bytes")
    devices = inference_devices(bench.device)
    if len(devices) > 1:
        prefix.devices = devices
        views = bench.views(prefix)
        several = torch.cat([v.cpu() for (v,) in prefix.activations(views, [range(len(views))])])
        prefix.close()
        alone = torch.from_numpy(np.load(feature_store.array_path(folder, EVALUATION, 0)))
        yield check(f"features on {len(devices)} GPUs and on one", torch.equal(several, alone))


def accuracy(bench: Bench) -> Iterator[Row]:
    """Of a head trained on the device, on features of it, and of one trained on the CPU."""
    results = {}
    on_cpu = bench.override(device__accelerator="cpu", features__views=0, images__augment="none")
    on_device = bench.override(features__views=0, images__augment="none")
    cases = {"cpu": (CPU, on_cpu), "device": (bench.device, on_device)}
    for name, (where, params) in cases.items():
        prefix = bench.prefix(where, "auto")
        folder, _ = bench.stored(f"one view, {name}", prefix, params)
        job = bench.job(params, folder)
        for _ in loop.fit(job, bench.examples, params.train):
            pass
        rows = bench.examples.rows("test")
        scores = scoring.logits(job.suffix, job.source, rows)
        correct = (scores.argmax(dim=1) == bench.examples.labels[rows]).sum()
        results[name] = int(correct)
    count = len(bench.examples.rows("test"))
    allowed = max(2, round(0.02 * count))
    yield figure("test accuracy, CPU", results["cpu"] / count, "", f"{count} images")
    yield check(
        "test accuracy, device",
        abs(results["device"] - results["cpu"]) <= allowed,
        results["device"] / count,
        f"at most {allowed} of {count} images from the CPU's",
    )
