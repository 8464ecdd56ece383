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

OUTPUTS = ["label", "probability", "problem"]
OF_SETS = ["set", "none_of_these"]  # more columns, of a model that can abstain


class MlflowModel:
    """Takes images in any of the forms of `read_images`; returns predictions."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._decoders = DecoderPool(processes=1)
        self._lock = Lock()  # a server may call from several threads

    def predict(self, data: Any) -> "pd.DataFrame":
        """Columns label, probability and problem, a row per image.

        If the model promises something about sets of classes, also set and none_of_these.

        Raises:
            PipelineError: `data` has no images.
        """
        import pandas as pd

        images = [NamedImage("", image) for image in read_images(data)]
        with self._lock:
            answers = list(predict(self._classifier, self._decoders, images))
        rows = [answer.prediction.record() for answer in answers]
        names = OUTPUTS + (OF_SETS if self._classifier.card.abstention else [])
        return pd.DataFrame(rows, columns=names, dtype=object)


def _load_pyfunc(path: str) -> MlflowModel:
    """Called by `mlflow.pyfunc.load_model`; nothing is unpickled."""
    return MlflowModel(Classifier(Path(path)))
