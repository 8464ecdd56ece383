"""The transfer-learning loop of the PyTorch tutorial for ants and bees (2017), for comparison.

    python -m bench.tutorial FOLDER  # with train, val and test in it, and params.yaml beside you

As in the tutorial: ImageFolder and PIL, random crops and flips, two loader processes, a new last
layer on a frozen network, the whole network run over every image in every epoch (in training mode,
so batch norms keep moving) and over the test set after each epoch. The tutorial has two sets, so
our validation images train here. Backbone, epochs, batch size, optimizer and its constant learning
rate come from params.yaml, and allocator and garbage collection are set as in our stages. The
originals used resnet18 with SGD, or Inception v3 with RMSprop at 0.001.
"""

import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.data import ConcatDataset, DataLoader
from torchvision import datasets, models, transforms

from pipeline.network import weights
from pipeline.network.malloc import keep_freed_memory
from pipeline.params import Params, load_params
from pipeline.stages.train.optimizer import make_optimizer

Batches = DataLoader[tuple[Tensor, Tensor]]
NORMALIZE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
WORKERS = 2


def batches(folder: Path, splits: Sequence[str], params: Params) -> Batches:
    """The loader of some splits; `test` is not augmented."""
    size = params.images.size
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    if "test" in splits:
        crop = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
    view = transforms.Compose([*crop, transforms.ToTensor(), NORMALIZE])
    images: Any = ConcatDataset([datasets.ImageFolder(folder / split, view) for split in splits])
    return DataLoader(images, params.train.batch_size, shuffle=True, num_workers=WORKERS)


def pretrained(params: Params, classes: int) -> tuple[nn.Module, nn.Module]:
    """The frozen network with a new last layer, and that layer."""
    name = params.model.backbone
    network = models.get_model(name, weights=weights.imagenet(name))
    for parameter in network.parameters():
        parameter.requires_grad = False
    linears = [item for item in network.named_modules() if isinstance(item[1], nn.Linear)]
    name, last = linears[-1]
    parent, _, leaf = name.rpartition(".")
    head = nn.Linear(last.in_features, classes)
    setattr(network.get_submodule(parent), leaf, head)
    return network, head


def train(
    network: nn.Module, loader: Batches, optimizer: optim.Optimizer, device: torch.device
) -> None:
    """One epoch."""
    network.train()
    criterion = nn.CrossEntropyLoss()
    for images, labels in loader:
        optimizer.zero_grad()
        loss: Any = criterion(network(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()


@torch.no_grad()
def accuracy(network: nn.Module, loader: Batches, device: torch.device) -> float:
    network.eval()
    correct = total = 0
    for images, labels in loader:
        correct += int((network(images.to(device)).argmax(dim=1) == labels.to(device)).sum())
        total += len(labels)
    return correct / total


def run(folder: Path, params: Params) -> float:
    """Train for all epochs; the test accuracy after the last."""
    torch.manual_seed(params.train.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_batches = batches(folder, ["train", "val"], params)
    test_batches = batches(folder, ["test"], params)
    classes = {path.name for path in (folder / "train").iterdir()}
    network, head = pretrained(params, len(classes))
    network.to(device)
    optimizer = make_optimizer(head, params.train, frozenset())
    test_accuracy = 0.0
    for _ in range(params.train.epochs):
        train(network, train_batches, optimizer, device)
        test_accuracy = accuracy(network, test_batches, device)
    return test_accuracy


def main() -> None:
    params = load_params()
    keep_freed_memory()
    gc.freeze()
    start = time.perf_counter()
    test_accuracy = run(Path(sys.argv[1]), params)
    print(json.dumps({"seconds": time.perf_counter() - start, "accuracy": test_accuracy}))


if __name__ == "__main__":
    main()
