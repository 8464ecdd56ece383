"""Use a trained model: bytes of images in, classes and probabilities out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline import images, model
from pipeline.header import Unreadable
from pipeline.progress import bar

if TYPE_CHECKING:
    import pandas as pd

BATCH = 32  # images that are decoded and run at a time


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image, or why it cannot."""

    label: str | None
    probability: float | None
    """Of `label`, in 0..1."""
    problem: str | None = None
    """A reason from `header.Reason`, or what the operating system said."""


class Classifier:
    """A model folder, ready to predict; it decodes as the filter does."""

    def __init__(self, directory: Path) -> None:
        """Raises PipelineError where `directory` holds no sound model."""
        self.network, self.card = model.load(directory)
        self._view = self.card.preprocess.evaluation()

    def predict(self, encoded: Iterable[bytes]) -> Iterator[Prediction]:
        """One prediction per image, in order; a bad image is a prediction with a problem."""
        waiting = iter(encoded)
        while batch := list(islice(waiting, BATCH)):
            views = [self._decode(data) for data in batch]
            found = iter(self._run([view for view in views if isinstance(view, Tensor)]))
            for view in views:
                yield self._answer(next(found)) if isinstance(view, Tensor) else view

    def scores(self, encoded: Iterable[bytes]) -> Iterator[Tensor]:
        """The probabilities (C,) of each image, in order.

        Raises:
            Unreadable: one of them is not an image.
        """
        waiting = iter(encoded)
        while batch := list(islice(waiting, BATCH)):
            yield from self._run([self._view_of(data) for data in batch])

    def _answer(self, chances: Tensor) -> Prediction:
        best = int(chances.argmax())
        return Prediction(self.card.classes[best], float(chances[best]))

    def _decode(self, data: bytes) -> Tensor | Prediction:
        """uint8 (3, size, size), or why there is none."""
        try:
            return self._view_of(data)
        except Unreadable as error:
            return Prediction(None, None, error.reason.value)

    def _view_of(self, data: bytes) -> Tensor:
        _, pixels = images.load(data, self.card.max_megapixels, self.card.store_side)
        view: Tensor = self._view(torch.from_numpy(pixels).permute(2, 0, 1))
        return view

    @torch.inference_mode()
    def _run(self, views: list[Tensor]) -> Sequence[Tensor]:
        """The calibrated probabilities (C,) of uint8 views (3, size, size)."""
        if not views:
            return ()
        scores: Tensor = self.network(self.card.preprocess.normalise(torch.stack(views)))
        return (scores / self.card.temperature).softmax(dim=1).unbind()


def predict_files(
    classifier: Classifier, paths: Sequence[Path]
) -> Iterator[tuple[Path, Prediction]]:
    """One prediction per path, in order; a file that cannot be opened is one with a problem."""
    with bar("predict", len(paths)) as shown:
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            contents = [_content(path) for path in batch]
            found = classifier.predict(data for data in contents if isinstance(data, bytes))
            for path, data in zip(batch, contents, strict=True):
                yield path, next(found) if isinstance(data, bytes) else data
                shown.update()


def _content(path: Path) -> bytes | Prediction:
    try:
        return path.read_bytes()
    except OSError as error:
        return Prediction(None, None, error.strerror or type(error).__name__)


class Served:
    """The model as MLflow calls it: a table with a column `image` of bytes, of any length."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def predict(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Columns label, probability and problem, a row per image."""
        import pandas as pd

        rows = [vars(found) for found in self._classifier.predict(table["image"])]
        return pd.DataFrame(rows, columns=["label", "probability", "problem"], dtype=object)


def _load_pyfunc(path: str) -> Served:
    """How `mlflow.pyfunc.load_model` opens the logged model: no pickle anywhere."""
    return Served(Classifier(Path(path)))
