"""The pyfunc that MLflow loads and serves."""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.images.format_detection import looks_like_image
from pipeline.images.header import RejectReason
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.predict import NamedImage, predict

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
OUTPUTS = ("label", "probability", "problem")


class MlflowModel:
    """Takes a table with a column `image`, of bytes or base64; returns a table of predictions."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._decoders = DecoderPool(processes=1)
        self._lock = Lock()  # a server may call from several threads

    def predict(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Columns label, probability and problem, a row per image."""
        import pandas as pd

        with self._lock:
            images = list(_named(table[COLUMN]))
            answers = list(predict(self._classifier, self._decoders, images))
        rows = [[getattr(answer.prediction, name) for name in OUTPUTS] for answer in answers]
        return pd.DataFrame(rows, columns=list(OUTPUTS), dtype=object)


def _named(column: Any) -> Iterator[NamedImage]:
    for value in column:
        yield NamedImage("", _bytes(value))


def _bytes(value: object) -> bytes | str:
    """Decode base64, which MLflow passes as bytes for some forms of JSON, unless it is an image."""
    if not isinstance(value, str | bytes | bytearray):
        return RejectReason.NOT_AN_IMAGE.value
    data = value.encode(errors="replace") if isinstance(value, str) else bytes(value)
    if looks_like_image(data):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return data


def _load_pyfunc(path: str) -> MlflowModel:
    """Called by `mlflow.pyfunc.load_model`; nothing is unpickled."""
    return MlflowModel(Classifier(Path(path)))
