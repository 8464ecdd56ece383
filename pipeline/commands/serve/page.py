"""The page at /, for people: a picture, its classes, similar ones, and where the model looked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request
from starlette.responses import HTMLResponse, Response

from pipeline.commands.serve.batching import Batcher
from pipeline.commands.serve.body import BodyMemory, body_of
from pipeline.commands.serve.feedback import FeedbackFolder, check_label
from pipeline.commands.serve.heatmaps import Heatmaps
from pipeline.commands.serve.limits import Refusal
from pipeline.commands.serve.request_images import RequestImages
from pipeline.images import gallery
from pipeline.inference.image_values import ImageValue

SCRIPT = Path(__file__).with_name("serve.js")


@dataclass(frozen=True)
class ServePage:
    """The facts of serve.html."""

    model: str
    classes: int
    needs_token: bool
    labels: Sequence[str]
    """That people may choose; none if no feedback is kept."""


def add_page(app: FastAPI, batcher: Batcher, needs_token: bool, keeps_feedback: bool) -> None:
    """Add the page and its script."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        model = batcher.model
        classes = model.classifier.card.classes
        labels = classes if keeps_feedback else ()
        facts = ServePage(model.name, len(classes), needs_token, labels)
        return gallery.render("commands/serve/serve.html", facts)

    @app.get(f"/{SCRIPT.name}", include_in_schema=False)
    async def script() -> Response:
        return Response(SCRIPT.read_bytes(), media_type="text/javascript")


def add_heatmaps(
    app: FastAPI, batcher: Batcher, heatmaps: Heatmaps, memory: BodyMemory, images: RequestImages
) -> None:
    """Add POST /gradcam, which takes what /predict takes."""

    @app.post("/gradcam", response_class=Response, include_in_schema=False)
    async def gradcam(request: Request) -> Response:
        async with body_of(request, memory) as (body, holding):
            image = _single(await images.read(request, body, holding))
            jpeg = await asyncio.to_thread(heatmaps.draw, batcher.model, image)
        return Response(jpeg, media_type="image/jpeg")


def add_thumbnails(app: FastAPI, batcher: Batcher) -> None:
    """Add GET /training-image, which has a small picture of a training image."""

    @app.get("/training-image", response_class=Response, include_in_schema=False)
    async def training_image(key: Annotated[str, Query(alias="id", max_length=64)]) -> Response:
        training = batcher.model.training
        jpeg = await asyncio.to_thread(training.thumbnail, key) if training else None
        if jpeg is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such training image")
        return Response(jpeg, media_type="image/jpeg")


def add_feedback(
    app: FastAPI,
    batcher: Batcher,
    folder: FeedbackFolder,
    memory: BodyMemory,
    images: RequestImages,
) -> None:
    """Add POST /feedback, which keeps an image for which a person names the class."""

    @app.post("/feedback", include_in_schema=False)
    async def feedback(request: Request, label: Annotated[str, Query()]) -> dict[str, str]:
        async with body_of(request, memory) as (body, holding):
            image = _single(await images.read(request, body, holding))
            check_label(label, batcher.model.classifier.card.classes)  # before it is logged
            (future,) = batcher.submit([image], 1)
            prediction = await asyncio.wrap_future(future)
            if prediction.classification.problem is not None:
                raise Refusal(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"no image: {prediction.classification.problem}",
                )
            classes = prediction.model.classifier.card.classes
            await asyncio.to_thread(folder.keep, image, label, classes)
        return {"kept": label}


def _single(contents: Sequence[ImageValue]) -> bytes:
    if len(contents) != 1 or isinstance(contents[0], str):
        raise Refusal(HTTPStatus.BAD_REQUEST, "send one image")
    return contents[0]
