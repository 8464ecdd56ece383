"""The pyfunc that MLflow loads and serves."""

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.image_values import read_images
from pipeline.inference.predict import NamedImage, predict

if TYPE_CHECKING:
    import pandas as pd

OUTPUTS = ("label", "probability", "problem")


class MlflowModel:
    """Takes images in any of the forms of `read_images`; returns predictions."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._decoders = DecoderPool(processes=1)
        self._lock = Lock()  # a server may call from several threads

    def predict(self, data: Any) -> "pd.DataFrame":
        """Columns label, probability and problem, a row per image.

        Raises:
            PipelineError: `data` has no images.
        """
        import pandas as pd

        images = [NamedImage("", image) for image in read_images(data)]
        with self._lock:
            answers = list(predict(self._classifier, self._decoders, images))
        rows = [[getattr(answer.prediction, name) for name in OUTPUTS] for answer in answers]
        return pd.DataFrame(rows, columns=list(OUTPUTS), dtype=object)


def _load_pyfunc(path: str) -> MlflowModel:
    """Called by `mlflow.pyfunc.load_model`; nothing is unpickled."""
    return MlflowModel(Classifier(Path(path)))
