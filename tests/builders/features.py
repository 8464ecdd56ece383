"""Features in memory, and an index of features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.inference.pooled_features import Features
from pipeline.network.feature_store import Index
from pipeline.network.views import Preprocess

Floats = npt.NDArray[np.float32]
PREPROCESS = Preprocess(
    size=16, resize=20, interpolation="bilinear", mean=[0.5, 0.5, 0.5], std=[0.5, 0.25, 0.125]
)


def feature_index(**values: Any) -> Index:
    """An index of the evaluation view of no images, with other `values`."""
    usual = {
        "stored": True,
        "why": "",
        "seed": 1,
        "augment": "none",
        "augmentation": {},
        "views": 0,
        "dtype": "float32",
        "precision": "32-true",
        "engine": "torch",
        "shapes": [],
        "prefix": "frozen",
        "preprocess": PREPROCESS,
        "images": "",
    }
    return Index.model_validate(usual | values)


class LoadedFeatures(Features):
    """Features in memory."""

    def __init__(self, values: Floats) -> None:
        super().__init__([])
        self.values = values

    @property
    def block_rows(self) -> int:
        return 37

    def read(self, rows: npt.NDArray[np.int64]) -> Floats:
        return self.values[rows]
