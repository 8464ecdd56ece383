"""Where the model looked: Grad-CAM pictures for the page."""

import threading
from http import HTTPStatus

import cv2
import torch

from pipeline.commands.serve.batching import Batcher, ServedModel
from pipeline.commands.serve.limits import Refusal, refuse_when_busy
from pipeline.core.errors import PipelineError
from pipeline.stages.evaluate.gradcam import Explainer, overlay

MAX_WAITING = 8  # pictures


class Heatmaps:
    """Draws one picture at a time, so that predictions keep most of the cores."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MAX_WAITING)
        self._explainer: tuple[ServedModel, Explainer] | None = None  # of the last model

    def draw(self, model: ServedModel, image: bytes) -> bytes:
        """A JPEG of the image as the network sees it, with the areas that speak for its class.

        Raises:
            Refusal: it cannot be read, the network has no feature maps, or too many wait.
        """
        if not self._places.acquire(blocking=False):
            raise refuse_when_busy()
        try:
            with self._lock:
                return self._draw(model, image)
        finally:
            self._places.release()

    def _draw(self, model: ServedModel, image: bytes) -> bytes:
        card = model.classifier.card
        ((pixels,),) = self._batcher.decoders.decode(
            [[image]], card.max_megapixels, card.store_side
        )
        if isinstance(pixels, str):
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"no image: {pixels}")
        view = model.classifier.view(pixels)
        with self._batcher.lock.computing():
            outputs = model.classifier.compute_independently(view[None])
            index = int(outputs.probabilities.argmax())
            (heat,) = self._explainer_of(model).heat(view[None], [index])
        picture = overlay(view, torch.as_tensor(heat))[:, :, ::-1]  # BGR
        return cv2.imencode(".jpg", picture)[1].tobytes()

    def _explainer_of(self, model: ServedModel) -> Explainer:
        if self._explainer is None or self._explainer[0] is not model:
            try:
                explainer = Explainer(model.classifier.network, model.classifier.card)
            except PipelineError as error:
                raise Refusal(HTTPStatus.NOT_IMPLEMENTED, str(error)) from error
            self._explainer = model, explainer
        return self._explainer[1]
