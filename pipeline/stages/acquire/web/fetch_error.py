"""FetchError: a URL gave no usable response."""

from pipeline.stages.acquire.raw_image import SkipReason


class FetchError(Exception):
    """A request failed; the message is a sentence that names the URL."""

    def __init__(
        self,
        reason: SkipReason,
        message: str,
        transient: bool = False,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.transient = transient
        """Whether another attempt may succeed."""
        self.status = status
        self.retry_after = retry_after
        """Seconds to wait before the next request (Retry-After)."""
