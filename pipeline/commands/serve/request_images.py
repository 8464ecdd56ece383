"""The images in a request: files of a form, the body itself, JSON with base64, or URLs."""

import asyncio
import json
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from pipeline.commands.serve.body import Holding
from pipeline.commands.serve.fetch import Fetcher
from pipeline.commands.serve.limits import Limits, Refusal
from pipeline.core.errors import PipelineError
from pipeline.inference.image_values import COLUMN, ImageValue, read_images

FORM, JSON, BYTES = "multipart/form-data", "application/json", "application/octet-stream"
URL = "url"
JSON_MARKS = (b",", b":", b"[", b"{")
MAX_JSON_MARKS = 2000  # 64 images as data URLs have 200
FORMS = (
    "send an image as the body (Content-Type: image/jpeg), files of a form (multipart/form-data), "
    f'or JSON: {{"{COLUMN}": base64 or a list of it}}'
)


class InMemoryParser(MultiPartParser):
    """Writes no temporary files: nothing that a client sent touches the disk."""

    spool_max_size = 0  # never written to disk: see tempfile.SpooledTemporaryFile


class RequestImages:
    """Reads images from requests."""

    def __init__(self, limits: Limits, fetcher: Fetcher | None) -> None:
        """`fetcher` fetches URLs; without it they are refused."""
        self._limits, self._fetcher = limits, fetcher

    async def read(self, request: Request, body: bytes, holding: Holding) -> list[ImageValue]:
        """The images, or the reasons why there are none.

        Raises:
            Refusal: it has none, too many, or is malformed.
        """
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if content_type == FORM:
            images = await self._files(request, body)
        elif content_type == JSON:
            images = await self._of_json(body, holding)
        elif content_type.startswith("image/") or content_type == BYTES:
            images = [body]
        else:
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, FORMS)
        if not images:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"no image: {FORMS}")
        self._check_number(len(images))
        return images

    def _check_number(self, number: int) -> None:
        if number > self._limits.images:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"too many images: a request may have {self._limits.images}",
            )

    async def _files(self, request: Request, body: bytes) -> list[ImageValue]:
        async def blocks() -> AsyncGenerator[bytes, None]:
            yield body

        number = self._limits.images + 1  # more are refused while they are parsed
        parser = InMemoryParser(request.headers, blocks(), max_files=number, max_fields=number)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"malformed form: {error.message}") from error
        try:
            return [await _bytes(value) for _, value in form.multi_items()]
        finally:
            await form.close()

    async def _of_json(self, body: bytes, holding: Holding) -> list[ImageValue]:
        try:
            value, images = await asyncio.to_thread(_parse, body)
        except (ValueError, RecursionError, PipelineError) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"malformed JSON: {FORMS}") from error
        return images if value is None else await self._fetch(value, holding)

    async def _fetch(self, value: object, holding: Holding) -> list[ImageValue]:
        urls = [value] if isinstance(value, str) else value
        if self._fetcher is None:
            message = "this server fetches no URLs: it runs without --allow-urls"
            raise Refusal(HTTPStatus.FORBIDDEN, message)
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise Refusal(HTTPStatus.BAD_REQUEST, f'"{URL}" is a URL, or a list of URLs')
        self._check_number(len(urls))
        images = []
        for url in urls:
            image = await self._fetcher.fetch(url)
            holding.add(len(image))
            images.append(image)
        return images


async def _bytes(value: UploadFile | str) -> bytes:
    if isinstance(value, str):
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "a field of the form is text: send files, such as curl -F image=@photo.jpg",
        )
    return await value.read()


def _parse(body: bytes) -> tuple[Any, list[ImageValue]]:
    """The value of "url" if there is one, else None and the images.

    Raises:
        ValueError, RecursionError, PipelineError: it is not of this form.
    """
    if sum(map(body.count, JSON_MARKS)) > MAX_JSON_MARKS:  # a megabyte of [] takes 20 in memory
        raise ValueError
    value = json.loads(body)
    if isinstance(value, dict):
        if len(value) != 1 or not value.keys() <= {COLUMN, URL}:
            raise ValueError
        if URL in value:
            return value[URL] or [], []
        value = value[COLUMN]
    if not isinstance(value, str | list):
        raise ValueError
    return None, read_images(value)
