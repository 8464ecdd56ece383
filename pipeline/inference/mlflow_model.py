"""The pyfunc that MLflow loads and serves."""

import base64
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pipeline.images.format_detection import looks_like_image
from pipeline.images.header import RejectReason
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool
from pipeline.inference.predict import NamedImage, predict

if TYPE_CHECKING:
    import pandas as pd

COLUMN = "image"
OUTPUTS = ("label", "probability", "problem")
NOT_BASE64 = "not_base64"  # the problem of a text that is no base64
STANDARD_ALPHABET = str.maketrans("-_", "+/")  # from that for URLs


class MlflowModel:
    """Takes a table with a column `image`, of bytes, base64 or data URLs; returns predictions."""

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
    """The bytes of an image, or the reason why there are none."""
    if isinstance(value, str):
        return _decode_text(value)
    if not isinstance(value, bytes | bytearray | memoryview):
        return RejectReason.NOT_AN_IMAGE.value
    data = bytes(value)
    if looks_like_image(data):
        return data
    # MLflow passes the text as bytes for some forms of JSON.
    decoded = _decode_text(data.decode("latin-1"))
    return decoded if isinstance(decoded, bytes) or data.isascii() else data


def _decode_text(text: str) -> bytes | str:
    """Decode base64 of either alphabet, with or without line breaks and padding; or a data URL."""
    text = text.strip()
    if text[:5].lower() == "data:":  # RFC 2397
        properties, _, text = text.partition(",")
        content = unquote_to_bytes(text)
        if not properties.lower().endswith(";base64"):
            return content
        text = content.decode("latin-1")
    packed = "".join(text.split()).translate(STANDARD_ALPHABET).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:  # binascii.Error is one; so is that of a character outside ASCII
        return NOT_BASE64


def _load_pyfunc(path: str) -> MlflowModel:
    """Called by `mlflow.pyfunc.load_model`; nothing is unpickled."""
    return MlflowModel(Classifier(Path(path)))
