"""The transfer-learning loop of the PyTorch tutorial for ants and bees (2017), to compare with.

    python -m bench.tutorial FOLDER  # with train, val and test in it, and params.yaml beside you

As there: ImageFolder and PIL, random crops and flips, two loading processes, everything frozen but
a new last layer, the whole network run over every image in every epoch (in training mode, so that
batch norms go on moving), and after each epoch over the test set: it knew two sets, so what ours
holds back to validate trains here. Backbone, epochs, batch size, optimizer and its constant
learning rate are params.yaml's, and the allocator and Python's collector of garbage are set as the
stages set them: the originals took resnet18 with SGD, or Inception v3 with RMSprop at 0.001.
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
    """The loader of some splits, of which `test` is not augmented."""
    size = params.images.size
    crop = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    if "test" in splits:
        crop = [transforms.Resize(round(size * 256 / 224)), transforms.CenterCrop(size)]
    seen = transforms.Compose([*crop, transforms.ToTensor(), NORMALIZE])
    images: Any = ConcatDataset([datasets.ImageFolder(folder / split, seen) for split in splits])
    return DataLoader(images, params.train.batch_size, shuffle=True, num_workers=WORKERS)


def pretrained(params: Params, classes: int) -> tuple[nn.Module, nn.Module]:
    """The frozen network with a new last layer, and that layer."""
    name = params.model.backbone
    network = models.get_model(name, weights=weights.imagenet(name))
    for parameter in network.parameters():
        parameter.requires_grad = False
    place, last = [each for each in network.named_modules() if isinstance(each[1], nn.Linear)][-1]
    parent, _, leaf = place.rpartition(".")
    head = nn.Linear(last.in_features, classes)
    setattr(network.get_submodule(parent), leaf, head)
    return network, head


def train(
    network: nn.Module, loader: Batches, optimizer: optim.Optimizer, where: torch.device
) -> None:
    """One epoch."""
    network.train()
    criterion = nn.CrossEntropyLoss()
    for images, labels in loader:
        optimizer.zero_grad()
        loss: Any = criterion(network(images.to(where)), labels.to(where))
        loss.backward()
        optimizer.step()


@torch.no_grad()
def accuracy(network: nn.Module, loader: Batches, where: torch.device) -> float:
    network.eval()
    right = seen = 0
    for images, labels in loader:
        right += int((network(images.to(where)).argmax(dim=1) == labels.to(where)).sum())
        seen += len(labels)
    return right / seen


def run(folder: Path, params: Params) -> float:
    """All epochs; the test accuracy after the last."""
    torch.manual_seed(params.train.seed)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seen, unseen = (batches(folder, each, params) for each in (["train", "val"], ["test"]))
    classes = {path.name for path in (folder / "train").iterdir()}
    network, head = pretrained(params, len(classes))
    network.to(where)
    optimizer = make_optimizer(head, params.train, frozenset())
    reached = 0.0
    for _ in range(params.train.epochs):
        train(network, seen, optimizer, where)
        reached = accuracy(network, unseen, where)
    return reached


def main() -> None:
    params = load_params()
    keep_freed_memory()
    gc.freeze()
    start = time.perf_counter()
    found = run(Path(sys.argv[1]), params)
    print(json.dumps({"seconds": time.perf_counter() - start, "accuracy": found}))


if __name__ == "__main__":
    main()
