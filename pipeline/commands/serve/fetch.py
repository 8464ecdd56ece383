"""Images at URLs that clients name, by the client of stage acquire with its checks."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from pipeline.inference.image_values import ImageValue
from pipeline.inference.inputs import LIMITS
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.fetch_error import FetchError
from pipeline.stages.acquire.web.retry import Policy

AT_ONCE = 8
SECONDS = 20  # for one image
POLICY = Policy(connect_timeout=5, read_timeout=10, attempts=1, max_pause=1)


class Fetcher:
    """Fetches images; addresses of private networks are refused."""

    def __init__(self, max_bytes: int, allow_private: bool = False) -> None:
        """`max_bytes` is of an image."""
        limits = LIMITS.model_copy(update={"allow_private": allow_private, "workers": AT_ONCE})
        self._client = Client(limits, POLICY)
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(AT_ONCE)

    async def fetch(self, url: str) -> ImageValue:
        """The bytes at a URL, or the reason why there are none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SECONDS):
                return await loop.run_in_executor(self._threads, self._fetch, url)
        except TimeoutError:
            return SkipReason.UNREACHABLE.value

    def _fetch(self, url: str) -> ImageValue:
        blocks, deadline = [], time.monotonic() + SECONDS
        try:
            with self._client.open(url) as response:
                for block in response.blocks(self._max_bytes):
                    blocks.append(block)
                    if time.monotonic() > deadline:
                        return SkipReason.UNREACHABLE.value
        except FetchError as error:
            return error.reason.value
        return b"".join(blocks)

    def close(self) -> None:
        """Stop fetching."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.limiter.stopped.set()
