"""Why an address gave nothing."""

from pipeline.stages.acquire.raw_image import SkipReason


class FetchError(Exception):
    """An answer that is none, and why, in a sentence."""

    def __init__(
        self,
        reason: SkipReason,
        said: str,
        transient: bool = False,
        status: int | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(said)
        self.reason = reason
        self.transient = transient
        """Whether it is worth another try."""
        self.status = status
        self.after = after
        """Seconds that the server wants to be left alone (Retry-After)."""
