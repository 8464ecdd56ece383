"""What /openapi.json says of POST /predict, whose body has several forms."""

from typing import Any

from pydantic import BaseModel


class ClassProbability(BaseModel):
    """A class and its calibrated probability, in 0..1."""

    label: str
    probability: float


class Neighbour(BaseModel):
    """A training image, with the cosine of its features and those of the image, and its credit."""

    id: str
    label: str
    similarity: float
    title: str | None
    owner: str | None
    licence: str | None
    licence_url: str | None
    link: str | None


class ImagePrediction(BaseModel):
    """The answer for an image."""

    model: str
    label: str | None
    probability: float | None
    problem: str | None
    set: list[str] | None
    """The classes that it may be of; None if the model promises nothing about them."""
    none_of_these: bool | None
    """Whether the image is far from the training images of all classes."""
    answer: str | None
    """The set in words."""
    top: list[ClassProbability]
    neighbours: list[Neighbour] = []
    """Only if the request has `neighbours`; the nearest first."""


class Predictions(BaseModel):
    """An answer for each image, in order."""

    predictions: list[ImagePrediction]


class Problem(BaseModel):
    """Why a request is refused."""

    error: str


BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES = {
    "type": "object",
    "properties": {"image": {"type": "array", "items": BINARY["schema"]}},
}
ONE_OR_MORE = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
OBJECT = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {"image": ONE_OR_MORE, "url": ONE_OR_MORE},
    "additionalProperties": False,
}
REFUSALS = {
    400: "malformed",
    401: "without the token",
    403: "not allowed",
    408: "too slow",
    413: "too large",
    415: "of another type",
    429: "busy: see Retry-After",
    503: "the machine cannot decode images",
}
PREDICT: dict[str, Any] = {
    "summary": "Classify images",
    "responses": {
        200: {"model": Predictions},
        **{code: {"model": Problem, "description": text} for code, text in REFUSALS.items()},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "image/*": BINARY,
                "application/octet-stream": BINARY,
                "multipart/form-data": {"schema": FILES},
                "application/json": {"schema": {"oneOf": [OBJECT, *ONE_OR_MORE["oneOf"]]}},
            },
        }
    },
}
