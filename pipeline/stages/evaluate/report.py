"""The page that one sends to a colleague: what was trained on what, how good it is, where it fails.

It is one file. The commit is told by the copy that MLflow keeps: one that DVC keeps has the same
bytes whenever it is made.
"""

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.core import atomic, shards
from pipeline.core.shards import SPLITS
from pipeline.core.split_csv import read_split
from pipeline.images import gallery
from pipeline.network.model_folder import Card
from pipeline.stages.evaluate.metrics import Figures

OF_CLASS = ("n", "correct", "precision", "recall", "f1", "roc_auc", "average_precision")
PICTURES = (
    "curves",
    "confusion",
    "thresholds",
    "reliability",
    "samples",
    "mistakes",
    "gradcam",
    "embedding",
)
OF_PHOTOGRAPHS = ("samples", "mistakes", "gradcam")
MIN_TEST_IMAGES = 30  # test images of a class, below which its figures say little


@dataclass(frozen=True)
class Page:
    """What the page is made of."""

    name: str
    """Of the data set."""
    sections: Mapping[str, Mapping[str, object]]
    """Of the params, told in full."""
    card: Card
    figures: Figures
    test: Path
    """The folder with the pictures."""
    clean: Path
    split_csv: Path
    grouped: bool
    """Whether some test images belong together."""

    def html(self, provenance: Mapping[str, str]) -> str:
        """The page; `provenance` names digests and, where it is known, the commit."""
        figures, classes = self.figures, self.card.classes
        return gallery.render(
            "stages/evaluate/report.html",
            {
                "name": self.name,
                "card": self.card,
                "figures": figures,
                "by_class": [
                    {"name": name} | {what: figures[f"{what}.{name}"] for what in OF_CLASS}
                    for name in classes
                ],
                "columns": OF_CLASS,
                "slices": self._slices(),
                "grouped": self.grouped,
                "splits": SPLITS,
                "counts": self._counts(),
                "licences": self._licences(),
                "owners": self._owners(),
                "params": self.sections,
                "pictures": {name: _embedded(self.test / f"{name}.png") for name in PICTURES},
                "provenance": provenance,
                "few": [name for name in classes if figures[f"n.{name}"] < MIN_TEST_IMAGES],
                "few_are": MIN_TEST_IMAGES,
                "confusions": self._confusions(),
            },
        )

    def _slices(self) -> list[dict[str, Any]]:
        start = "accuracy.slice."
        names = [key.removeprefix(start) for key in self.figures if key.startswith(start)]
        return [
            {
                "name": name.replace("_", " "),
                "accuracy": self.figures[start + name],
                "n": self.figures[f"n.slice.{name}"],
            }
            for name in names
        ]

    def _counts(self) -> dict[str, Counter[str]]:
        """Images by split, of each class."""
        counts = {name: Counter[str]() for name in self.card.classes}
        for row in read_split(self.split_csv):
            counts[row.label][row.split] += 1
        return counts

    def _licences(self) -> dict[str, int]:
        found = shards.columns(self.clean, ["licence"]).column("licence").to_pylist()
        return dict(Counter(name or "none stated" for name in found).most_common())

    def _owners(self) -> list[tuple[str, int]]:
        """Whose images these are, and how many, by name; of those that say so."""
        found = shards.columns(self.clean, ["owner"]).column("owner").to_pylist()
        return sorted(Counter(name for name in found if name).items())

    def _confusions(self) -> list[tuple[str, str, int]]:
        """True class, answer, and how often: the commonest mistakes."""
        rows = atomic.read_csv(self.test / "predictions.csv")
        found = Counter(
            (row["label"], row["predicted"]) for row in rows if row["label"] != row["predicted"]
        )
        return [(true, said, count) for (true, said), count in found.most_common(5)]


def _embedded(picture: Path) -> str:
    """A picture as what an <img> takes; those of photographs are a tenth as large as a JPEG."""
    content, kind = picture.read_bytes(), "png"
    if picture.stem in OF_PHOTOGRAPHS:
        encoded = io.BytesIO()
        Image.open(picture).convert("RGB").save(encoded, "JPEG", quality=85)
        content, kind = encoded.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
