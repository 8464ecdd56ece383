"""The model as MLflow calls it; MLflow opens it through this module."""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.images.header import RejectReason, looks_like_image
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.predict import NamedImage, predict

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
OUTPUTS = ("label", "probability", "problem")


class MlflowModel:
    """A table with a column `image`, of bytes or of base64, of any length -> a table of answers."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._decoders = DecoderPool(processes=1)
        self._lock = Lock()  # a server may ask from several threads

    def predict(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Columns label, probability and problem, a row per image."""
        import pandas as pd

        with self._lock:
            images = list(_named(table[COLUMN]))
            found = [each.prediction for each in predict(self._classifier, self._decoders, images)]
        rows = [[getattr(each, name) for name in OUTPUTS] for each in found]
        return pd.DataFrame(rows, columns=list(OUTPUTS), dtype=object)


def _named(column: Any) -> Iterator[NamedImage]:
    for value in column:
        yield NamedImage("", _bytes(value))


def _bytes(value: object) -> bytes | str:
    """Bytes of an image, or base64: also as bytes, for so MLflow passes on some forms of JSON."""
    if not isinstance(value, str | bytes | bytearray):
        return RejectReason.NOT_AN_IMAGE.value
    given = value.encode(errors="replace") if isinstance(value, str) else bytes(value)
    if looks_like_image(given):
        return given
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        return given


def _load_pyfunc(path: str) -> MlflowModel:
    """How `mlflow.pyfunc.load_model` opens the logged model: no pickle anywhere."""
    return MlflowModel(Classifier(Path(path)))
