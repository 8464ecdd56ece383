"""The service as an application of FastAPI."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from pipeline import __version__
from pipeline.commands.serve import metrics as prometheus
from pipeline.commands.serve.access import Access, reply
from pipeline.commands.serve.batching import Batcher, ServedAnswer
from pipeline.commands.serve.body import BodyMemory, UnreadBodies, body_of
from pipeline.commands.serve.feedback import FeedbackFolder
from pipeline.commands.serve.fetch import Fetcher
from pipeline.commands.serve.heatmaps import Heatmaps
from pipeline.commands.serve.limits import Limits, Refusal
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.openapi import PREDICT
from pipeline.commands.serve.page import add_feedback, add_heatmaps, add_page, add_thumbnails
from pipeline.commands.serve.request_images import RequestImages
from pipeline.commands.serve.training_images import TrainingImage
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import printable

TOP_K = 5
MAX_TOP_K = 1000
MAX_NEIGHBOURS = 12
PARAMETERS = {  # of the query, each with the sentence for a malformed one
    "top_k": f"top_k is a number from 1 to {MAX_TOP_K}",
    "neighbours": f"neighbours is a number from 0 to {MAX_NEIGHBOURS}",
    "label": "label is missing: name a class of the model, as in /feedback?label=CLASS",
}


@dataclass(frozen=True)
class Service:
    """What the application needs."""

    batcher: Batcher
    metrics: Metrics
    limits: Limits
    token: str | None
    """See `Access`."""
    hosts: Collection[str] | None
    """See `Access`."""
    fetcher: Fetcher | None
    """Without it, URLs are refused."""
    feedback: FeedbackFolder | None = None
    """Where pictures that people called wrong are kept."""


def build_app(service: Service) -> ASGIApp:
    """The application. Its pages of documentation would load scripts from elsewhere."""
    app = FastAPI(title="image-pipeline", version=__version__, docs_url=None, redoc_url=None)
    app.exception_handler(Refusal)(_refuse)
    app.exception_handler(PipelineError)(_explain)
    app.exception_handler(HTTPException)(_describe_status)
    app.exception_handler(RequestValidationError)(_refuse_query)
    memory = BodyMemory(service.limits)
    images = RequestImages(service.limits, service.fetcher)
    _add_predict(app, service, memory, images)
    _add_status(app, service)
    add_page(app, service.batcher, service.token is not None, service.feedback is not None)
    add_thumbnails(app, service.batcher)
    add_heatmaps(app, service.batcher, Heatmaps(service.batcher), memory, images)
    if service.feedback is not None:
        add_feedback(app, service.batcher, service.feedback, memory, images)
    service.metrics.gauges["body_bytes"] = lambda: memory.bytes
    service.metrics.gauges["waiting_images"] = lambda: service.batcher.waiting
    return Access(UnreadBodies(app), service.token, service.hosts, service.metrics)


def _add_predict(app: FastAPI, service: Service, memory: BodyMemory, images: RequestImages) -> None:
    @app.post("/predict", response_class=JSONResponse, **PREDICT)
    async def predict(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K)] = TOP_K,
        neighbours: Annotated[int, Query(ge=0, le=MAX_NEIGHBOURS)] = 0,
    ) -> Response:
        async with body_of(request, memory) as (body, holding):
            contents = await images.read(request, body, holding)
            futures = service.batcher.submit(contents, top_k, neighbours)
            predictions = await asyncio.gather(*map(asyncio.wrap_future, futures))
        records = [_record(prediction) for prediction in predictions]
        if neighbours:
            for record, prediction in zip(records, predictions, strict=True):
                record["neighbours"] = [_neighbour(image) for image in prediction.neighbours]
        return JSONResponse({"predictions": records})


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The server answers."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> str:
        """The server can predict."""
        if not service.batcher.is_running:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "not ready")
        return "ready\n"

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=prometheus.CONTENT_TYPE)


def _record(prediction: ServedAnswer) -> dict[str, Any]:
    """As a line of `pipeline predict --format json`, but with the model instead of the path."""
    classes = prediction.classification
    return {
        "model": prediction.model.name,
        **classes.record(),
        "answer": None if classes.candidates is None else classes.candidates.describe(),
        "top": [{"label": label, "probability": value} for label, value in classes.top],
    }


def _neighbour(image: TrainingImage) -> dict[str, Any]:
    """A training image; its texts are of strangers, and may hide what they say."""
    credit = image.credit
    return {
        "id": image.id,
        "label": image.label,
        "similarity": image.similarity,
        "title": printable(credit.title or "") or None,
        "owner": printable(credit.owner or "") or None,
        "licence": printable(credit.licence or "") or None,
        "licence_url": credit.licence_url,
        "link": credit.link,
    }


async def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return reply(refusal)


async def _explain(_: Request, error: Exception) -> Response:
    """Such as that the machine has no memory for decoders."""
    return reply(Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)))


async def _describe_status(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(HTTPStatus(error.status_code), str(error.detail).lower())
    response = reply(refusal)
    response.headers.update(error.headers or {})
    return response


async def _refuse_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    name = str(error.errors()[0]["loc"][-1])
    message = PARAMETERS.get(name, f"the parameter {name} is missing or malformed")
    return reply(Refusal(HTTPStatus.BAD_REQUEST, message))
